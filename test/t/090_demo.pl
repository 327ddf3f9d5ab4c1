# The story of make demo comes to a good end: it counts every effect itself,
# and its exit code says whether one is missing or happened twice.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use Test::More;

my $node = new_server('demo', conf => ['track_commit_timestamp = on']);
my ($story, $trouble) = ('', '');

local $ENV{PGHOST}            = $node->host;
local $ENV{PGPORT}            = $node->port;
local $ENV{PGDATABASE}        = 'postgres';
local $ENV{OUTBOX_SERVER_LOG} = $node->logfile;
delete local $ENV{PGAPPNAME};

ok( IPC::Run::run(
		[ 'bash', "$FindBin::RealBin/../demo/run" ],
		'<', \undef, '>', \$story, '2>', \$trouble),
	'make demo')
  or diag("$story\n$trouble");
my $checks = () = $story =~ /^   ok  /mg;
cmp_ok($checks, '>=', 14, 'all its counts are right');

$node->stop;
done_testing();
