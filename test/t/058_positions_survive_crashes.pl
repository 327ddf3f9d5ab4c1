# A position that was seen names the same event for ever, although nobody else
# waits for the disk: the server commits asynchronously and writes its log
# only when it must, and then is killed.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $db = 'postgres';
my $node = new_server(
	'positions',
	conf => [ "synchronous_commit = off", "wal_writer_delay = 10s", "checkpoint_timeout = 1h" ]);
my $published = 0;
my $seen = '';

$node->safe_psql($db, 'CREATE EXTENSION pg_outbox; CHECKPOINT');

sub read_log
{
	return $node->safe_psql($db, 'SELECT position, id, xid, key FROM outbox.read()');
}

# Publishes, sees the positions, and has the server crash.
sub see_and_crash
{
	my ($name, $crash) = @_;
	my $head = $node->safe_psql($db, 'SELECT outbox.head()');

	$published++, $node->safe_psql($db, "SELECT outbox.publish('t', key => '$published')") for 1 .. 5;
	$node->poll_query_until($db, "SELECT outbox.head() = $head + 5") or die 'no positions';
	$seen = read_log();
	$crash->();
	wait_for_recovery($node);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(substr(read_log(), 0, length($seen)), $seen, "after $name, what was seen stands");
	return;
}

for my $role (qw(sequencer launcher))
{
	see_and_crash("kill -9 of the $role", sub { kill_hard($node, worker_pid($node, $db, $role)) });
}
see_and_crash('an immediate stop', sub { $node->stop('immediate'); $node->start });
see_and_crash('a fast stop', sub { $node->stop('fast'); $node->start });

$node->stop;
done_testing();
