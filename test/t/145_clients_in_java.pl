# docs/clients.md in Java: pgJDBC.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;

test_clients(java => sub { "jdbc:postgresql://127.0.0.1:$_[0]/$_[1]?user=shop&prepareThreshold=0" });
