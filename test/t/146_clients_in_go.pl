# docs/clients.md in Go: pgx.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;

test_clients(go => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" });
