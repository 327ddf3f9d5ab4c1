# docs/clients.md in Python: psycopg and asyncpg.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;

test_clients(
	map { $_ => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" } } qw(psycopg asyncpg));
