# Where there are fewer workers than wanted, owners and databases take turns,
# and what was refused is taken up when it can be.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# 5: two launchers (one is PostgreSQL's own), two sequencers, one dispatcher
my $node = new_server('scarce',
	conf => [ 'max_worker_processes = 5', 'outbox.max_workers = 1' ]);

$node->safe_psql('postgres', 'CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN');
for my $database (qw(one two))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	install_orders($node, $database);
	$node->safe_psql($database, "UPDATE nap SET seconds = 0.01;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO alice, bob");
	$node->safe_psql($database, "SET SESSION AUTHORIZATION alice;
		SELECT outbox.subscribe('a', handler => 'quick_handler')");
	$node->safe_psql($database, "SET SESSION AUTHORIZATION bob;
		SELECT outbox.subscribe('b', handler => 'slow_handler')");
}
for my $round (1 .. 3)
{
	insert_orders($node, $_, 30) for qw(one two);
}
for my $database (qw(one two))
{
	for my $handler (qw(quick slow))
	{
		wait_for_effects($node, $database, $handler, 90, "$handler handler in database $database");
		effects_are_exact($node, $database, $handler,
			"$handler handler in database $database, exactly once");
	}
	is( $node->safe_psql($database,
			"SELECT string_agg(DISTINCT handler || ' ' || role, ', ' ORDER BY handler || ' ' || role)
			 FROM effect"),
		'quick alice, slow bob',
		"each handler ran as the owner of its subscription in database $database");
}

# a third database finds no process for its sequencer, and one when it is free
$node->safe_psql('postgres', 'CREATE DATABASE three');
install_orders($node, 'three');
$node->safe_psql('three', "SELECT outbox.subscribe('s', handler => 'quick_handler')");
insert_orders($node, 'three', 5);
$node->safe_psql('one', 'DROP EXTENSION pg_outbox CASCADE');
wait_for_effects($node, 'three', 'quick', 5, 'the third database, once there is room');

# an owner who cannot connect is served as soon as it can
$node->safe_psql('two', 'REVOKE CONNECT ON DATABASE two FROM public;
	GRANT CONNECT ON DATABASE two TO bob');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
	WHERE usename = 'alice'");
insert_orders($node, 'two', 10);
wait_for_effects($node, 'two', 'slow', 100, 'others are served meanwhile');
wait_until($node, 'two',
	"SELECT count(*) = 1 FROM outbox.worker WHERE owner = 'alice'::regrole AND state = 'refused'",
	'outbox.worker shows who is refused');
is($node->safe_psql('two', "SELECT count(*) FROM effect WHERE handler = 'quick'"),
	90, 'an owner without CONNECT is not served');
$node->safe_psql('two', 'GRANT CONNECT ON DATABASE two TO alice');
wait_for_effects($node, 'two', 'quick', 100, 'and is once it may connect');
effects_are_exact($node, 'two', 'quick', 'exactly once');

$node->stop;
done_testing();
