# Commits wake the sequencer: with a poll interval of an hour, events are
# delivered all the same, from every kind of commit.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('rings', conf => ["outbox.poll_interval = '1h'"]);
my $orders = 0;

install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
wait_for_worker($node, 'postgres', 'sequencer', 'a sequencer is there');

sub delivers
{
	my ($name, $count, @statements) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	# nothing else may wake it: it sleeps by then
	wait_until($node, 'postgres',
		"SELECT count(*) = 1 FROM outbox.worker WHERE role = 'sequencer' AND state = 'idle'",
		"$name: asleep");
	$node->safe_psql('postgres', $_) for @statements;
	$orders += $count;
	return wait_for_effects($node, 'postgres', 'quick', $orders, $name);
}

my $insert = 'INSERT INTO orders (amount) VALUES (1)';
delivers('single statement', 1, $insert);
delivers('transaction block', 2, "BEGIN; $insert; $insert; COMMIT");
delivers('savepoint rolled back', 1, "BEGIN; $insert; SAVEPOINT a; $insert; ROLLBACK TO a; COMMIT");
delivers('asynchronous commit', 1, "SET synchronous_commit = off; $insert");
delivers('procedure that commits', 2, "DO \$\$ BEGIN $insert; COMMIT; $insert; END \$\$");
delivers('COPY', 2, "COPY orders (amount) FROM PROGRAM 'printf \"1\\\\n2\\\\n\"'");
delivers('prepared transaction', 1,
	"BEGIN; $insert; PREPARE TRANSACTION 'p'", "COMMIT PREPARED 'p'");

# many at once, so that the sequencer gathers them: whoever comes when it has
# just begun, or is about to end, wakes it all the same
my $script = $node->basedir . '/insert.sql';
PostgreSQL::Test::Utils::append_to_file($script, "SET synchronous_commit = off;\n$insert;\n");
for my $round (1 .. 5)
{
	$node->command_ok([ 'pgbench', '-n', '-c', 8, '-t', 300, '-f', $script, 'postgres' ], 'eight sessions');
	$orders += 8 * 300;
	# before its housekeeping wakes it
	is($node->safe_psql('postgres', "SELECT outbox.wait('s', '8 seconds')"), 't', "round $round: nothing is left behind");
}

# one that was prepared before a crash, and is committed after it
$node->safe_psql('postgres', "BEGIN; $insert; PREPARE TRANSACTION 'q'");
$node->stop('immediate');
$node->start;
wait_for_worker($node, 'postgres', 'sequencer', 'a sequencer is there again');
delivers('prepared before a crash', 1, "COMMIT PREPARED 'q'");

# a subscription that starts in the past needs no event to be served
$node->safe_psql('postgres',
	"SELECT outbox.subscribe('t', handler => 'slow_handler', start => 'beginning')");
wait_for_effects($node, 'postgres', 'slow', $orders, 'a subscription that starts at the beginning');

effects_are_exact($node, 'postgres', $_, "$_ handler: exactly once") for qw(quick slow);
$node->stop;
done_testing();
