# Consumers that pull may be ended at any moment, and the server with them:
# with effects in the transaction of the ack, each event has its effect once;
# with a lease at least once, acked once; and always in order for each key.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{PULL_SECONDS} // 12;
my $seed = $ENV{PULL_SEED} // time() % 100000;
srand($seed);
diag("PULL_SEED=$seed");

my $node = new_server('pull', conf => ['outbox.poll_interval = 100ms']);
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_outbox;
	SELECT outbox.subscribe('held', concurrency => 4, backoff => '10 ms',
		max_backoff => '100 ms', max_attempts => 3);
	SELECT outbox.subscribe('leased', concurrency => 4, backoff => '10 ms',
		max_backoff => '100 ms', max_attempts => 3);

	-- what consumers did, and what they acked
	CREATE TABLE held_effect (n bigserial, position bigint, key text);
	CREATE TABLE leased_effect (n bigserial, position bigint, key text);
	CREATE TABLE acked (position bigint);

	-- one transaction around each hand-out
	CREATE PROCEDURE consume_held() LANGUAGE plpgsql AS $$
	DECLARE
		event record;
		receipt bigint;
		failing text[];
	BEGIN
		FOR i IN 1 .. 50 LOOP
			receipt := NULL;
			failing := '{}';
			FOR event IN SELECT * FROM outbox.receive('held', 1 + (random() * 30)::integer) LOOP
				receipt := event.receipt;
				CONTINUE WHEN event.key = ANY (failing);
				IF random() < 0.05 THEN
					PERFORM outbox.nack('held', receipt, event.position, 'by chance');
					failing := failing || event.key;
					CONTINUE;
				END IF;
				INSERT INTO held_effect (position, key) VALUES (event.position, event.key);
				IF random() < 0.05 THEN
					PERFORM outbox.ack('held', receipt, event.position);
				END IF;
			END LOOP;
			IF receipt IS NULL THEN
				PERFORM pg_sleep(0.005);
			ELSIF random() < 0.1 THEN
				ROLLBACK;
			ELSE
				PERFORM outbox.ack('held', receipt);
			END IF;
			COMMIT;
		END LOOP;
	END $$;

	-- transactions of its own for the hand-out, each effect and the ack
	CREATE PROCEDURE consume_leased() LANGUAGE plpgsql AS $$
	DECLARE
		hand_out outbox.event[];
		positions bigint[];
		receipt bigint;
		failing text[];
		left_over bigint[];
		state text;
	BEGIN
		FOR i IN 1 .. 50 LOOP
			SELECT array_agg(r.position ORDER BY r.position), max(r.receipt),
				   array_agg((r.id, r.xid, r.time, r.type, r.source, r.key, r.operation, r.data,
							  r.old, r.headers, r.correlation_id, r.causation_id)::outbox.event
							 ORDER BY r.position)
			INTO positions, receipt, hand_out
			FROM outbox.receive('leased', 1 + (random() * 30)::integer,
								make_interval(secs => 0.02 + 0.3 * random())) r;
			COMMIT;
			failing := '{}';
			left_over := '{}';
			state := 'good';
			FOR j IN 1 .. coalesce(cardinality(positions), 0) LOOP
				CONTINUE WHEN hand_out[j].key = ANY (failing);
				IF random() < 0.05 THEN
					BEGIN
						PERFORM outbox.nack('leased', receipt, positions[j], 'by chance');
						failing := failing || hand_out[j].key;
					EXCEPTION WHEN SQLSTATE 'OB004' THEN
						state := 'late';
					END;
					COMMIT;
				ELSE
					INSERT INTO leased_effect (position, key)
					VALUES (positions[j], hand_out[j].key);
					left_over := left_over || positions[j];
					COMMIT;
					PERFORM pg_sleep(0.02 * random()) WHERE random() < 0.3;
				END IF;
				IF state = 'good' AND random() < 0.05 AND left_over <> '{}' THEN
					BEGIN
						PERFORM outbox.ack('leased', receipt, left_over[cardinality(left_over)]);
						INSERT INTO acked SELECT unnest(left_over);
						left_over := '{}';
					EXCEPTION WHEN SQLSTATE 'OB004' THEN
						state := 'late';
					END;
					COMMIT;
				END IF;
				EXIT WHEN state = 'late';
			END LOOP;
			IF receipt IS NULL THEN
				PERFORM pg_sleep(0.005);
			ELSIF state = 'good' AND random() < 0.95 THEN
				BEGIN
					PERFORM outbox.ack('leased', receipt);
					INSERT INTO acked SELECT unnest(left_over);
				EXCEPTION WHEN SQLSTATE 'OB004' THEN
					NULL;
				END;
			END IF;
			COMMIT;
		END LOOP;
	END $$;

	CREATE PROCEDURE produce() LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. 20 LOOP
			PERFORM outbox.publish('t', key => nullif('k' || (random() * 20)::integer, 'k0'))
			FROM generate_series(1, (random() * 10)::integer);
			IF random() < 0.1 THEN
				ROLLBACK;
			END IF;
			COMMIT;
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
});

my $stop = $node->basedir . '/stop';
my $no_more = $node->basedir . '/no_more';

# Runs the procedure again and again, whatever becomes of its sessions.
sub start_loop
{
	my ($procedure, @ends) = @_;
	my $parent = $$;
	my $pid = fork // die "could not fork: $!";

	return $pid if $pid;
	open(STDIN, '<', '/dev/null');
	open(STDOUT, '>', '/dev/null');
	open(STDERR, '>', '/dev/null');
	while (getppid() == $parent && !grep { -e $_ } @ends)
	{
		sleep 0.1
		  if system('psql', '-X', '-q', '-d',
			$node->connstr('postgres') . " application_name=$procedure",
			'-c', "CALL $procedure()") != 0;
	}
	POSIX::_exit(0);
}

sub touch
{
	open(my $file, '>', $_[0]) or die "could not write $_[0]: $!";
	close($file);
	return;
}

# Asks a server that may be in the middle of a crash; undef if it is.
sub ask
{
	my ($query) = @_;
	my ($out, $err) = ('', '');

	# it dies where psql is gone before it has read the query
	my $code = eval { $node->psql('postgres', $query, stdout => \$out, stderr => \$err) };
	return defined $code && $code == 0 ? $out : undef;
}

my @loops = (
	(map { start_loop('consume_held', $stop) } 1 .. 3),
	(map { start_loop('consume_leased', $stop) } 1 .. 3),
	(map { start_loop('produce', $no_more) } 1 .. 2));

my $end = time() + $seconds;
my $crashes = 2;
my $ended = 0;
while (time() < $end)
{
	sleep 0.1 + rand(0.2);
	my $pid = ask("SELECT pid FROM pg_stat_activity
				   WHERE application_name LIKE 'consume%' ORDER BY random() LIMIT 1");
	next if !$pid;
	if ($crashes > 0 && rand() < 0.05)
	{
		kill_hard($node, $pid);
		$crashes--;
	}
	else
	{
		ask("SELECT pg_terminate_backend($pid)");
	}
	$ended++;
}
touch($no_more);
ok($ended > 5, 'consumers were ended');

# the end: everything acked, or given up by chance
wait_until($node, 'postgres', "SELECT outbox.wait('held', '1 s') AND outbox.wait('leased', '1 s')",
	'all events are dealt with');
touch($stop);
waitpid($_, 0) for @loops;

my $events = $node->safe_psql('postgres', 'SELECT count(*) FROM outbox.read(max_events => 1000000)');
cmp_ok($events, '>', 100, "there were events ($events)");
for my $subscription (qw(held leased))
{
	is( $node->safe_psql('postgres', qq{
			SELECT count(*) FILTER (WHERE e.position IS NULL AND d.position IS NULL) AS lost,
				   count(*) FILTER (WHERE r.position IS NULL) AS unknown
			FROM outbox.read(max_events => 1000000) r
			LEFT JOIN outbox.dead_letter d ON d.position = r.position AND d.subscription = '$subscription'
			FULL JOIN (SELECT DISTINCT position FROM ${subscription}_effect) e ON e.position = r.position}),
		'0|0', "$subscription: every event had its effect, or is a dead letter");
	is( $node->safe_psql('postgres', qq{
			SELECT count(*)
			FROM (SELECT position, lag(position) OVER (PARTITION BY key ORDER BY n) AS before
				  FROM (SELECT min(n) AS n, position, key FROM ${subscription}_effect
						WHERE key IS NOT NULL GROUP BY position, key) e) e
			WHERE position < before}),
		'0', "$subscription: in order for each key");
}
is( $node->safe_psql('postgres', q{
		SELECT count(*) - count(DISTINCT position) AS repeated,
			   (SELECT count(*) FROM outbox.dead_letter d JOIN held_effect e USING (position)
				WHERE d.subscription = 'held') AS dead_with_effect
		FROM held_effect}),
	'0|0', 'held: exactly once');
is( $node->safe_psql('postgres', q{
		SELECT count(*) - count(DISTINCT position),
			   count(*) - (SELECT delivered FROM outbox.status WHERE name = 'leased')
		FROM acked}),
	'0|0', 'leased: acked exactly once');
is( $node->safe_psql('postgres', q{
		SELECT name, lag, retrying, parked,
			   delivered + dead - (SELECT count(*) FROM outbox.read(max_events => 1000000))
		FROM outbox.status ORDER BY name}),
	"held|0|0|0|0\nleased|0|0|0|0", 'nothing is left, and the counters agree');

$node->stop;
done_testing();
