# Workers that are terminated or killed, and servers that go down, lose nothing
# and repeat nothing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('comeback');
my $orders = 0;

install_orders($node, 'postgres');
$node->safe_psql('postgres', "SELECT outbox.subscribe('s', handler => 'quick_handler');
	SELECT outbox.subscribe('t', handler => 'slow_handler', concurrency => 2)");

sub order_and_check
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	insert_orders($node, 'postgres', 20);
	$orders += 20;
	for my $handler (qw(quick slow))
	{
		wait_for_effects($node, 'postgres', $handler, $orders, "$name: $handler handler");
		effects_are_exact($node, 'postgres', $handler, "$name: $handler handler, exactly once");
	}
	return;
}

order_and_check('at first');

# asked to end, in the middle of things
for my $role (qw(launcher sequencer dispatcher))
{
	my $pid = worker_pid($node, 'postgres', $role);

	$node->safe_psql('postgres', 'UPDATE nap SET seconds = 0.02');
	insert_orders($node, 'postgres', 20);
	$orders += 20;
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until($node, 'postgres',
		"SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid", "$role is gone");
	order_and_check("after pg_terminate_backend of the $role");
	wait_for_new_worker($node, 'postgres', $role, $pid, "a new $role");
}

# all at once
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE backend_type LIKE 'pg_outbox%'");
order_and_check('after all were terminated');

# a worker that does nothing is not to be cancelled
{
	my $query = "SELECT string_agg(pid::text, ',' ORDER BY pid) FROM pg_stat_activity
		WHERE backend_type LIKE 'pg_outbox%'";
	wait_for_worker($node, 'postgres', 'dispatcher', 'a dispatcher is there');
	wait_until($node, 'postgres',
		"SELECT bool_and(state = 'idle') FROM pg_stat_activity WHERE backend_type LIKE 'pg_outbox%'",
		'all are idle');
	my $pids = $node->safe_psql('postgres', $query);
	$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
		WHERE backend_type LIKE 'pg_outbox%'");
	order_and_check('after idle workers were cancelled');
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE pid IN ($pids)"),
		scalar(split(/,/, $pids)), 'they are still there');
}

# a handler that is cancelled is repeated, and its event does not count that
$node->safe_psql('postgres', 'UPDATE nap SET seconds = 600');
insert_orders($node, 'postgres', 1);
$orders++;
wait_until($node, 'postgres',
	"SELECT count(*) > 0 FROM pg_stat_activity
	 WHERE backend_type = 'pg_outbox dispatcher' AND wait_event = 'PgSleep'",
	'a handler sleeps');
$node->safe_psql('postgres', "UPDATE nap SET seconds = 0;
	SELECT pg_cancel_backend(pid) FROM pg_stat_activity
	WHERE backend_type = 'pg_outbox dispatcher' AND wait_event = 'PgSleep'");
order_and_check('after a handler was cancelled');

# killed: PostgreSQL restarts everything
for my $role (qw(dispatcher sequencer launcher))
{
	insert_orders($node, 'postgres', 20);
	$orders += 20;
	ok(kill_hard($node, worker_pid($node, 'postgres', $role)), "kill -9 of the $role");
	wait_for_recovery($node);
	order_and_check("after kill -9 of the $role");
}

# the server itself
for my $mode (qw(immediate fast))
{
	insert_orders($node, 'postgres', 20);
	$orders += 20;
	$node->stop($mode);
	$node->start;
	order_and_check("after a stop, mode $mode");
}

$node->stop;
done_testing();
