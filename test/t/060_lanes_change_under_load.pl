# While events flow, the lanes of subscriptions are divided anew, subscriptions
# are moved back and forth in the log, and handlers fail now and then: every
# event is still dealt with once, the events of a key in order, and a replay is
# told from what comes for the first time.
#
#   OUTBOX_SEED      repeats a run's choices
#   OUTBOX_SECONDS   how long
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OutboxServer;
use Test::More;
use Time::HiRes qw(sleep time);

my $seed = $ENV{OUTBOX_SEED} // int(rand(1_000_000_000));
my $seconds = $ENV{OUTBOX_SECONDS} // 15;
my $db = 'postgres';

srand($seed);
note("OUTBOX_SEED=$seed");

my $node = new_server('lanes',
	conf => [ "outbox.max_workers = 6", "log_min_messages = warning", "max_connections = 40" ]);

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, subscription text,
						 position bigint, key text, replay boolean);
	CREATE INDEX ON effect (subscription, position);

	CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (subscription, position, key, replay)
		VALUES (outbox.current_subscription(), outbox.current_position(), e.key, outbox.is_replay());
		-- what a seek drops has been tried, and counts as dealt with
		IF random() < 0.01 AND outbox.current_subscription() <> 'moved' THEN
			RAISE 'by chance';
		END IF;
	END $$;

	-- takes and acks in one transaction; returns how many
	CREATE FUNCTION consume(max_events integer) RETURNS bigint LANGUAGE plpgsql AS $$
	DECLARE
		count bigint;
		taken bigint;
	BEGIN
		WITH r AS (
			SELECT * FROM outbox.receive('pull', max_events)
		), e AS (
			INSERT INTO effect (subscription, position, key)
			SELECT 'pull', position, key FROM r ORDER BY position
		)
		SELECT count(*), max(receipt) INTO count, taken FROM r;
		IF random() < 0.02 THEN
			RAISE serialization_failure;
		END IF;
		IF taken IS NOT NULL THEN
			PERFORM outbox.ack('pull', taken);
		END IF;
		RETURN count;
	END $$;
});

my $patient = "max_attempts => 100000, backoff => '2 milliseconds', max_backoff => '20 milliseconds'";

foreach my $name (qw(lanes modes moved))
{
	$node->safe_psql($db,
		"SELECT outbox.subscribe('$name', handler => 'handle', batch_size => 20, concurrency => 2, $patient)");
}
$node->safe_psql($db, "SELECT outbox.subscribe('pull', concurrency => 2)");

# ---- the load ----

my $scripts = $node->basedir;
append_to("$scripts/publish.sql", q{
\set key random(1, 40)
SELECT outbox.publish('t', key => nullif('k' || :key, 'k1'));
});
append_to("$scripts/consume.sql", q{
\set count random(1, 30)
SELECT consume(:count);
});

# pgbench tries again from 15 on
my @tries = `pgbench --help` =~ /--max-tries/ ? ('--max-tries', 100) : ();
my %load = (
	publish => start_pgbench('publish', '-c', 3, '-R', 400, '-T', $seconds),
	consume => start_pgbench('consume', '-c', 2, '-R', 100, '-T', $seconds, @tries));

# ---- changes ----

my %changes;
my $end = time + $seconds;

while (time < $end)
{
	my $lanes = 1 + int(rand(6));
	my $kind = (qw(lanes lanes modes moved seek seek pull))[ rand(7) ];

	if ($kind eq 'seek')
	{
		change("SELECT outbox.seek('moved', 1 + trunc(random() * (outbox.head() + 1))::bigint)");
	}
	elsif ($kind eq 'modes')
	{
		my $ordering = (qw(key none strict))[ rand(3) ];

		$lanes = 1 if $ordering eq 'strict';
		change("SELECT outbox.alter_subscription('modes', ordering => '$ordering', concurrency => $lanes)");
	}
	else
	{
		change("SELECT outbox.alter_subscription('$kind', concurrency => $lanes)");
	}
	$changes{$kind}++;
	sleep rand(0.2);
}
note(join ', ', map { "$_ $changes{$_}" } sort keys %changes);

foreach my $script (sort keys %load)
{
	my $ended = $load{$script}->finish;

	# what consume() raises is to be tried again
	ok($ended || $script eq 'consume' && !@tries, "$script.sql ended well")
	  or diag(PostgreSQL::Test::Utils::slurp_file("$scripts/$script.err"));
}

# ---- what became of it ----

# the last replay, of everything; nothing is delivered while it begins
my $mark = $node->safe_psql($db, q{
	BEGIN;
	SET LOCAL client_min_messages = warning;
	SELECT FROM outbox.seek('moved', 1);
	SELECT coalesce(max(n), 0) FROM effect;
	COMMIT;
});
($mark) = $mark =~ /(\d+)/;

foreach my $name (qw(lanes modes moved))
{
	is($node->safe_psql($db, "SELECT outbox.wait('$name', '120 seconds')"), 't', "$name is done");
}
$node->poll_query_until($db, "SELECT consume(1000) = 0 AND lag = 0 AND retrying = 0 AND parked = 0
	FROM outbox.status WHERE name = 'pull'") or fail('pull is done');

my $events = $node->safe_psql($db, 'SELECT outbox.head()');
note("$events events");

foreach my $name (qw(lanes modes pull))
{
	is_exact($name, 'true', "$name: every event once");
}
foreach my $name (qw(lanes pull))
{
	is_ordered($name, 'true', "$name: the events of a key in order");
}
is_exact('moved', "n > $mark", 'a replay of everything: every event once');
is_ordered('moved', "n > $mark", 'and those of a key in order');

is($node->safe_psql($db, q{
	SELECT count(*) FILTER (WHERE replay AND NOT again) AS new_as_replay,
		   count(*) FILTER (WHERE NOT replay AND again) AS replay_as_new
	FROM (SELECT replay, row_number() OVER (PARTITION BY position ORDER BY n) > 1 AS again
		  FROM effect WHERE subscription = 'moved') e}),
	'0|0', 'what had been delivered is a replay, and nothing else');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.delivery'), '0', 'nothing is left over');
is($node->safe_psql($db, q{
	SELECT count(*) FROM outbox.status s
	WHERE s.name IN ('lanes', 'modes') AND
		  s.delivered <> (SELECT count(*) FROM effect e WHERE e.subscription = s.name)}),
	'0', 'the counters are right');

$node->stop;
done_testing();

# ---- helpers ----

sub append_to
{
	my ($file, $text) = @_;

	open(my $handle, '>', $file) or die "$file: $!";
	print $handle $text;
	close $handle;
	return;
}

sub start_pgbench
{
	my ($script, @options) = @_;

	return IPC::Run::start(
		[ 'pgbench', '-n', '-h', $node->host, '-p', $node->port,
		  '-f', "$scripts/$script.sql", @options, $db ],
		'>', "$scripts/$script.out", '2>', "$scripts/$script.err");
}

sub change
{
	my ($statement) = @_;
	my $err = '';

	$node->psql($db, "SET client_min_messages = warning; $statement",
		stderr => \$err, on_error_stop => 1) == 0
	  or fail($statement) || diag($err);
	return;
}

sub is_exact
{
	my ($name, $condition, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		$node->safe_psql($db, qq{
			SELECT $events - count(DISTINCT position) AS missing,
				   count(*) - count(DISTINCT position) AS repeated
			FROM effect WHERE subscription = '$name' AND $condition}),
		'0|0', $what);
}

sub is_ordered
{
	my ($name, $condition, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is(
		$node->safe_psql($db, qq{
			SELECT count(*)
			FROM (SELECT position, lag(position) OVER (PARTITION BY key ORDER BY n) AS before
				  FROM effect
				  WHERE subscription = '$name' AND key IS NOT NULL AND $condition) e
			WHERE position < before}),
		'0', $what);
}
