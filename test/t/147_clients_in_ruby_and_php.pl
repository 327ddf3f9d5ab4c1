# docs/clients.md in Ruby and PHP: pg and PDO.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxClients;

test_clients(
	ruby => sub { "postgresql://shop\@127.0.0.1:$_[0]/$_[1]" },
	php  => sub { "pgsql:host=127.0.0.1;port=$_[0];dbname=$_[1];user=shop" });
