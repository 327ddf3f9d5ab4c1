# docs/clients.md in JavaScript: node-postgres.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;

test_clients(node => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" });
