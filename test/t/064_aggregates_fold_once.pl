# Aggregates: every event is folded into one window of its key, in its order,
# and every window is emitted once, while reducers fail, aggregates are paused,
# and dispatchers and the server are killed.  Where windows end by time, the log
# says: with or without crashes they are those that it tells of.  And they end
# by the clock, without another event.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $db = 'postgres';
my $rounds = $ENV{OUTBOX_ROUNDS} // 4;
my $node = new_server(
	'aggregates',
	conf => [ "log_min_messages = warning", "autovacuum_naptime = 1s" ]);
my @connection = ('-h', $node->host, '-p', $node->port);
my $script = $node->basedir . '/put.sql';

# some transactions roll back, some events have no key
open(my $file, '>', $script) or die "could not write $script: $!";
print $file <<'END';
\set n random(1, 8)
\set way random(1, 10)
BEGIN;
SELECT outbox.publish('Put', key => nullif(k::text, '0')) FROM (SELECT (random() * 12)::int AS k FROM generate_series(1, :n)) g;
\if :way = 1
ROLLBACK;
\else
COMMIT;
\endif
END
close($file);

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION gather(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
		IF random() < 0.01 THEN
			RAISE 'by chance';
		END IF;
		RETURN coalesce(state, '[]') || to_jsonb(event.id);
	END $$;
	SELECT outbox.aggregate('count', '{Put}', 'Counted', 'gather', max_events => 7);
	SELECT outbox.aggregate('until', '{Put}', 'Divisible', 'gather', until => $$ (state->>-1)::bigint % 11 = 0 $$);
	SELECT outbox.aggregate('quiet', '{Put}', 'Quiet', 'gather', quiet => '50 milliseconds');
	SELECT outbox.aggregate('period', '{Put}', 'Period', 'gather', period => '300 milliseconds');
	SELECT outbox.alter_subscription(name, backoff => '5 milliseconds', max_attempts => 1000, batch_size => b)
	FROM unnest('{count,until,quiet,period}'::text[], '{10,10000,100,1000}'::int[]) u (name, b);

	-- in positions of the log: what was put, and by whom it was folded
	CREATE VIEW put AS
		SELECT r.id, r.position, coalesce(r.key, '-') AS key, g.time
		FROM outbox.read(max_events => 10000000) r
		JOIN LATERAL (SELECT g.time FROM outbox.segment g WHERE g.first_position <= r.position
					  ORDER BY g.first_position DESC LIMIT 1) g ON true
		WHERE r.type = 'Put';
	CREATE VIEW collected AS
		-- by ids: in a moment an event has its position, and its window is open no more
		SELECT split_part(e.source, ':', 2) AS name, coalesce(e.key, '-') AS key, e.id AS number,
			   e.data, e.headers->'causes' AS causes, e.correlation_id, e.causation_id, true AS emitted
		FROM outbox.event e WHERE e.source LIKE 'aggregate:%'
		UNION ALL
		SELECT a.name, coalesce(a.key, '-'), 9223372036854775807, a.state, a.state, NULL, NULL, false
		FROM outbox.aggregation a;
	CREATE VIEW folded AS
		SELECT c.name, c.key, c.number, n, id::bigint AS id
		FROM collected c, jsonb_array_elements_text(c.causes) WITH ORDINALITY AS f (id, n);
});

# ---- what must hold ----

sub check_folding
{
	my ($when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 seconds')}), 't', "$when: all is folded");
	is($node->safe_psql($db, q{
		SELECT string_agg(name || ' ' || (SELECT count(*) FROM put p WHERE NOT EXISTS (
				   SELECT FROM folded f WHERE f.name = s.name AND f.id = p.id AND f.key = p.key)) || ' '
			   || (SELECT count(*) - count(DISTINCT f.id) FROM folded f WHERE f.name = s.name), ', ' ORDER BY s.id)
		FROM outbox.subscription s}),
		'count 0 0, until 0 0, quiet 0 0, period 0 0', "$when: every event is in one window");
	is($node->safe_psql($db, q{
		SELECT count(*) FROM (
			SELECT p.position < lag(p.position) OVER (PARTITION BY f.name, f.key ORDER BY f.number, f.n) AS wrong
			FROM folded f JOIN put p USING (id)) o WHERE wrong}),
		'0', "$when: in the order of its key");
	is($node->safe_psql($db, q{
		SELECT count(*) FROM collected c
		WHERE emitted AND (data <> causes OR causation_id <> (causes->>-1)::bigint OR correlation_id <> causes->>0)}),
		'0', "$when: what is emitted tells of those");
	is($node->safe_psql($db, q{
		SELECT count(*) FROM collected c
		WHERE name = 'count' AND (emitted <> (jsonb_array_length(data) = 7) OR jsonb_array_length(data) > 7)
		   OR name = 'until' AND emitted <> ((data->>-1)::bigint % 11 = 0)}),
		'0', "$when: windows end when they are complete");
	return;
}

# By the log alone: windows that end by time are complete, and are these.
sub check_times
{
	my ($when) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, $db, q{
		SELECT count(*) = 0 FROM outbox.aggregation WHERE name IN ('quiet', 'period')},
		"$when: without another event, windows end by the clock");
	is($node->safe_psql($db, q{
		WITH RECURSIVE seq AS (
			SELECT *, row_number() OVER (PARTITION BY key ORDER BY position) AS n FROM put),
		step AS (
			SELECT key, n, id, time, time AS since_quiet, time AS since_period, 1 AS quiet, 1 AS period
			FROM seq WHERE n = 1
			UNION ALL
			SELECT s.key, s.n, s.id, s.time, s.time,
				   CASE WHEN s.time >= t.since_period + interval '300 ms' THEN s.time ELSE t.since_period END,
				   t.quiet + (s.time >= t.since_quiet + interval '50 ms')::int,
				   t.period + (s.time >= t.since_period + interval '300 ms')::int
			FROM step t JOIN seq s ON s.key = t.key AND s.n = t.n + 1),
		expected AS (
			SELECT 'quiet' AS name, key, jsonb_agg(id ORDER BY n) AS causes FROM step GROUP BY key, quiet
			UNION ALL
			SELECT 'period', key, jsonb_agg(id ORDER BY n) FROM step GROUP BY key, period),
		found AS (
			SELECT name, key, causes FROM collected WHERE name IN ('quiet', 'period'))
		SELECT (SELECT count(*) > 0 FROM expected),
			   (SELECT count(*) FROM (TABLE expected EXCEPT ALL TABLE found) d),
			   (SELECT count(*) FROM (TABLE found EXCEPT ALL TABLE expected) d)}),
		't|0|0', "$when: windows are those that the log tells of");
	return;
}

# ---- the load ----

my $load;

sub start_load
{
	$load = fork() // die "could not fork: $!";
	return if $load;
	open(STDOUT, '>', '/dev/null');
	open(STDERR, '>', '/dev/null');
	exec('pgbench', '-n', @connection, '-c', 3, '-j', 1, '-R', 150, '-T', 600, '-f', $script, $db)
	  or POSIX::_exit(127);
}

sub stop_load
{
	kill('KILL', $load);
	waitpid($load, 0);
	undef $load;
	return;
}

sub start_server
{
	for (1 .. 300)
	{
		return if $node->start(fail_ok => 1);
		sleep 0.1;
		$node->stop('fast', fail_ok => 1);
	}
	die 'the server does not start';
}

sub wait_for_more
{
	my $head = $node->safe_psql($db, 'SELECT outbox.head()');

	$node->poll_query_until($db, "SELECT outbox.head() > $head + 400");
	return;
}

END { kill('KILL', $load) if $load; }

start_load();
wait_for_more();
foreach my $round (1 .. 3)
{
	$node->safe_psql($db, "SELECT outbox.pause(name) FROM outbox.status");
	wait_for_more();
	$node->safe_psql($db, "SELECT outbox.resume(name) FROM outbox.status");
	wait_for_more();
}
stop_load();
check_folding('after pauses');
check_times('after pauses');

my @ways = (
	[ 'a dispatcher is terminated', sub {
			$node->safe_psql($db, q{
				SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_outbox dispatcher'}) } ],
	[ 'a dispatcher is killed', sub {
			wait_for_worker($node, $db, 'dispatcher', 'there is a dispatcher');
			kill_hard($node, worker_pid($node, $db, 'dispatcher')) } ],
	[ 'the server is killed', sub { $node->kill9; stop_load(); start_server(); } ],
	[ 'the server is stopped at once', sub { $node->stop('immediate'); stop_load(); start_server(); } ]);

foreach my $round (1 .. $rounds)
{
	my ($name, $fell) = @{ $ways[ $round % @ways ] };

	start_load() if !$load;
	wait_for_more();
	$fell->();
	wait_for_recovery($node);
	stop_load() if $load;
	start_load();
	wait_for_more();
	stop_load();
	check_folding("$name ($round)");
}
check_times('at the end');
cmp_ok($node->safe_psql($db, "SELECT sum(failed) FROM outbox.status"), '>', 10, 'reducers have failed');
is($node->safe_psql($db, "SELECT sum(dead + retrying + parked) FROM outbox.status"), '0', 'and nothing is left of it');

# ---- replay, and removal under load ----

my $begin = $node->safe_psql($db, 'SELECT outbox.head() + 1');
start_load();
wait_for_more();
$node->safe_psql($db, "SELECT outbox.seek('count', to_position => $begin)");
my $seen = $node->safe_psql($db, 'SELECT outbox.head()');
wait_for_more();
$node->safe_psql($db, "SELECT outbox.unsubscribe('period')");
stop_load();
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 seconds')}), 't', 'all is folded once more');
is($node->safe_psql($db, qq{
	WITH again AS (SELECT f.* FROM folded f JOIN put p USING (id)
				   WHERE f.name = 'count' AND p.position >= $begin)
	SELECT count(*) > 0, count(*) FILTER (WHERE n NOT IN (1, 2)), count(*) FILTER (WHERE n = 2 AND position > $seen)
	FROM (SELECT p.position, count(*) AS n FROM put p LEFT JOIN again a USING (id)
		  WHERE p.position >= $begin GROUP BY p.position) x}),
	't|0|0', 'a replay folds again what had been folded, and the rest once');
wait_until($node, $db, q{
	SELECT count(*) = 0 FROM outbox.aggregate_window w
	WHERE NOT EXISTS (SELECT FROM outbox.subscription s WHERE s.id = w.subscription)},
	'an aggregate that is gone leaves nothing');

# ---- a window that is due while the server is down ----

$node->safe_psql($db, q{
	SELECT outbox.unsubscribe(name) FROM outbox.status;
	SELECT outbox.aggregate('down', '{Put}', 'Late', 'gather', period => '2 seconds');
	SELECT outbox.publish('Put', key => 'down')});
wait_until($node, $db, q{SELECT count(*) = 1 FROM outbox.aggregation}, 'a window is open');
my $due = $node->safe_psql($db, 'SELECT extract(epoch FROM due) FROM outbox.aggregation');
$node->stop('immediate');
sleep(0.1) while time < $due;
start_server();
wait_until($node, $db, q{SELECT count(*) = 1 FROM outbox.event WHERE type = 'Late'},
	'it is emitted when the server is back, and nothing else has come');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.aggregation'), '0', 'and is open no more');

$node->stop;
done_testing();
