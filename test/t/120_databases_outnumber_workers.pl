# More databases than worker processes: who has nothing to do gives way, every
# database is served within moments, and each says what it lacks.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# 8 is PostgreSQL's default: two launchers (one is its own), and six for us
my $node = new_server('outnumbered', conf => ['max_worker_processes = 8']);
my @databases = map { "d$_" } 1 .. 8;

for my $database (@databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	install_orders($node, $database);
	# the last one has a log and nobody who wants it
	$node->safe_psql($database, "SELECT outbox.subscribe('s', handler => 'quick_handler')")
	  if $database ne 'd8';
}
for my $round (1 .. 3)
{
	insert_orders($node, $_, 10) for @databases;
}
for my $database (@databases[0 .. 6])
{
	wait_for_effects($node, $database, 'quick', 30, "database $database is served");
	effects_are_exact($node, $database, 'quick', "database $database, exactly once");
}
wait_until($node, 'd8', 'SELECT outbox.head() = 30', 'events get positions where nobody subscribes');

# they are idle now: nobody takes a process from anybody
my $workers = "SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity
	WHERE backend_type LIKE 'pg_outbox %'";
my ($before, $after) = ('', '');
for (1 .. 30)
{
	$before = $after;
	$after = $node->safe_psql('postgres', "$workers; SELECT pg_sleep(3)");
	last if $before eq $after;
}
is($after, $before, 'processes do not come and go on an idle server');

# what has a process is shown, and who has none
for my $database (@databases)
{
	is($node->safe_psql($database,
			"SELECT count(*) = 1 FROM outbox.worker
			 WHERE role = 'sequencer' AND (pid IS NOT NULL OR state = 'starved')"),
		't', "outbox.worker of $database shows its sequencer, or that it is starved");
}
my ($resting) = grep {
	$node->safe_psql($_, "SELECT count(*) FROM outbox.worker WHERE pid IS NOT NULL AND role <> 'launcher'") eq '0'
} @databases[0 .. 6];
isnt($resting, undef, 'one of them has no process at all');

# a time that comes is as good as a commit
$node->safe_psql($resting,
	q{SELECT outbox.publish('order.due', data => '{"id": 1000}', deliver_at => now() + interval '3 s')});
insert_orders($node, $_, 1) for grep { $_ ne $resting } @databases;
wait_until($node, $resting, 'SELECT outbox.head() > 30', 'what is scheduled comes in time');
wait_until($node, $resting, "SELECT count(*) = 1 FROM effect WHERE id = 1000", 'and is delivered');

# slow handlers everywhere: databases take turns
for my $database (@databases[0 .. 6])
{
	$node->safe_psql($database, "UPDATE nap SET seconds = 0.02;
		SELECT outbox.alter_subscription('s', handler => 'slow_handler');
		INSERT INTO orders (amount) SELECT generate_series(1, 60)");
}
for my $database (@databases[0 .. 6])
{
	wait_until($node, $database, 'SELECT outbox.wait()', "$database has had its turns");
	is($node->safe_psql($database,
			'SELECT count(*), count(DISTINCT id) FROM effect JOIN orders USING (id)'),
		$node->safe_psql($database, 'SELECT count(*), count(*) FROM orders'),
		"in $database every order was handled once");
}

# a handler that takes long does not keep the others from being served
$node->safe_psql($_, "UPDATE nap SET seconds = 600 WHERE current_database() IN ('d1', 'd2');
	UPDATE nap SET seconds = 0 WHERE current_database() NOT IN ('d1', 'd2')")
  for @databases;
insert_orders($node, $_, 1) for @databases;
for my $database (@databases[2 .. 6])
{
	wait_until($node, $database,
		'SELECT count(DISTINCT id) = (SELECT count(*) FROM orders) FROM effect JOIN orders USING (id)',
		"$database is served though others' handlers take long");
}

# the log says so, once
my $said = () = server_log($node) =~ /databases take turns/g;
is($said, 1, 'the log says that processes are scarce, once');

$node->stop;
done_testing();
