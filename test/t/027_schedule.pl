# Scheduled events enter the log on time, without traffic; and each once and in
# order, whatever is killed while they are moved.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# a poll that would be noticed
my $node = new_server('schedule', conf => ["outbox.poll_interval = '1h'", 'log_statement = none']);
$node->safe_psql('postgres', 'CREATE EXTENSION pg_outbox');
wait_until($node, 'postgres',
	"SELECT count(*) > 0 FROM outbox.worker WHERE role = 'sequencer' ", 'served');

# ---- on time ----

sub latest_delay
{
	my ($type) = @_;

	return $node->safe_psql('postgres', qq{
		SELECT coalesce(max(extract(epoch FROM "time" - (data->>'due')::timestamptz)), 1000)
		FROM outbox.event WHERE type = '$type'});
}

sub publish_due
{
	my ($type, $in) = @_;

	$node->safe_psql('postgres', qq{
		SELECT outbox.publish('$type', jsonb_build_object('due', due), deliver_at => due)
		FROM (SELECT clock_timestamp() + interval '$in' AS due) t});
	return;
}

sub wait_for_type
{
	my ($type, $count) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until($node, 'postgres',
		"SELECT count(*) = $count FROM outbox.read(max_events => 1000000, types => '{$type}')", "$type: in the log");
}

# the sequencer sleeps for an hour when these are published; the disk may be
# late now and then, who keeps no time is late again and again
my ($later, $sooner);
for my $try (1 .. 4)
{
	($later, $sooner) = ("Later$try", "Sooner$try");
	publish_due($later, '3 s');
	publish_due($sooner, '1 s');
	wait_for_type($_, 1) foreach ($sooner, $later);
	last if latest_delay($sooner) < 1 && latest_delay($later) < 1;
}
cmp_ok(latest_delay($_), '<', 1, "$_: on time") foreach ($sooner, $later);
cmp_ok(latest_delay($_), '>=', 0, "$_: not before") foreach ($sooner, $later);

# one whose publisher commits when it is due
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT outbox.publish('Overdue', deliver_at => clock_timestamp() + interval '0.2 s');
	SELECT outbox.publish('Overdue', deliver_at => clock_timestamp() + interval '1 day');
	SELECT pg_sleep(0.5);
	COMMIT});
wait_for_type('Overdue', 1);
# behind events that are due later, and moved before it commits
my $late = $node->background_psql('postgres');
$late->query_safe(q{BEGIN; SELECT outbox.publish('Late', deliver_at => clock_timestamp() + interval '0.2 s')});
publish_due('Between', '0.5 s');
wait_for_type('Between', 1);
$late->query_safe('COMMIT');
wait_for_type('Late', 1);

# one that is held by who may cancel it, and does not
my $held;
for my $in (1, 5, 25)
{
	# where it has gone before it could be held, one with more time
	$held = "Held$in";
	publish_due($held, "$in s");
	last if $late->query_safe(
		"BEGIN; SELECT outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE type = '$held'") =~ /t/;
	$late->query_safe('ROLLBACK');
}
my ($in) = $held =~ /(\d+)/;
publish_due('NotHeld', ($in + 0.2) . ' s');
wait_for_type('NotHeld', 1);
is($node->safe_psql('postgres', "SELECT count(*) FROM outbox.event WHERE type = '$held'"), 0, 'held back');
$late->query_safe('ROLLBACK');
wait_for_type($held, 1);
$late->quit;

# over a restart, due while the server is down
publish_due('Slept', '1 s');
$node->stop;
sleep 2;
$node->start;
wait_for_type('Slept', 1);

# prepared transactions commit without a word: the poll finds them
$node->safe_psql('postgres', "ALTER SYSTEM SET outbox.poll_interval = '100ms'");
$node->reload;
$node->safe_psql('postgres', q{
	BEGIN;
	SELECT outbox.publish('Prepared', deliver_at => clock_timestamp() + interval '0.1 s');
	PREPARE TRANSACTION 'p'});
publish_due('Meanwhile', '0.3 s');
wait_for_type('Meanwhile', 1);
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
wait_for_type('Prepared', 1);

# ---- nothing is written while nothing is due ----

$node->safe_psql('postgres', q{
	SELECT count(outbox.publish('Far', deliver_at => '2999-12-31')) FROM generate_series(1, 100)});
# a statement keeps its snapshot, so it takes two to see what is written
my ($last, $quiet) = ('', 0);
for (1 .. 30)
{
	my $now = $node->safe_psql('postgres', 'SELECT pg_snapshot_xmax(pg_current_snapshot())');

	$quiet = $now eq $last;
	last if $quiet;
	$last = $now;
	$node->safe_psql('postgres', 'SELECT pg_sleep(1.5)');
}
ok($quiet, 'no transaction ids');

# ---- many are due, and everything is killed in turn ----

# a quick machine may be through before it is killed twice: then once more
my $batch = 150000;
my $count = 0;
my $kills = 0;
my $old;
while ($kills < 2 && $count < 3 * $batch)
{
	kill_while_moving();
}
cmp_ok($kills, '>=', 2, "killed $kills times in the middle");
wait_for_type('Many', $count);
is( $node->safe_psql('postgres', q{
		SELECT count(*), count(DISTINCT n), count(*) FILTER (WHERE n <> number)
		FROM (SELECT (data->>'n')::int AS n, row_number() OVER (ORDER BY "position") AS number
			  FROM outbox.read(max_events => 1000000, types => '{Many}')) e}),
	"$count|$count|0", 'each once, in order');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FILTER (WHERE outbox.publish('Repeated', idempotency_key => data->>'n') = id), count(*)
		FROM outbox.event WHERE type = 'Many' AND (data->>'n')::int % 1000 = 0}),
	join('|', ($count / 1000) x 2), 'keys tell of their events');
is($node->safe_psql('postgres', "SELECT count(*) FROM outbox.scheduled WHERE type = 'Many'"), 0, 'none is left');

$node->stop;
done_testing();

# Schedules many, has them due at once, and kills who moves them, four times
# at most.
sub kill_while_moving
{
	$node->safe_psql('postgres', qq{
		SELECT outbox.publish_many(jsonb_agg(jsonb_build_object('type', 'Many', 'data', jsonb_build_object('n', n),
				'idempotency_key', CASE WHEN n % 1000 = 0 THEN n::text END,
				'deliver_at', timestamptz '2999-01-01' + (n / 100) * interval '1 ms') ORDER BY n))
		FROM generate_series($count + 1, $count + $batch) n});
	$count += $batch;

	# under an old snapshot, as everything that is moved leaves index entries
	if (!defined $old)
	{
		$old = $node->background_psql('postgres');
		$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM outbox.schedule');
	}

	# a while later
	$node->safe_psql('postgres', q{
		UPDATE outbox.schedule SET deliver_at = deliver_at - interval '1000 years' WHERE type = 'Many'});

	my $rounds = 0;
	my $seen = $count - $batch;
	while ($rounds++ < 600)
	{
		my $left = $node->safe_psql('postgres', "SELECT count(*) FROM outbox.scheduled WHERE type = 'Many'");
		my $moved = $count - $left;

		last if $left == 0;
		if ($moved > $seen && $kills < 4)
		{
			my $pid = worker_pid($node, 'postgres', 'sequencer');

			if ($pid ne '')
			{
				# a crash of the server, twice, and terminations
				$kills % 2 == 0 ? kill_hard($node, $pid) : kill('TERM', $pid);
				$kills++;
				$seen = $moved;
				wait_for_recovery($node);
			}
		}
		select(undef, undef, undef, 0.02);
	}
	return;
}
