# docs/clients.md in Rust and C#: tokio-postgres and Npgsql.  SLOW_CLIENTS=1
# builds their programs, where they have not been built before.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;

test_clients(
	rust   => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" },
	csharp => sub { "Host=127.0.0.1;Port=$_[0];Database=$_[1];Username=shop;No Reset On Close=true" });
