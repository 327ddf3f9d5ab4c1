# What reading the log costs goes with what is read: not with the number of
# partitions, nor with how long a transaction is, nor with what is kept.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

plan skip_all => 'memory is measured by /proc' unless -r '/proc/self/status';

# without workers, so that nobody else counts; few buffers, since a session's
# memory includes those that it has touched
my $node = new_server('reading',
	conf => [ "shared_preload_libraries = ''", 'shared_buffers = 1MB', 'fsync = off', 'outbox.retention = -1' ]);
my $db = 'postgres';
my $partitions = 400;
my $segments = 700;

# By how many kB a fresh session grows while it runs a query.
sub growth
{
	my ($warm_up, $query) = @_;
	my $memory = "SELECT 'peak ' || substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\\s*(\\d+)')";
	my @peak = $node->safe_psql($db, "$warm_up; $memory; $query; $memory") =~ /^peak (\d+)$/mg;

	note("peaks in kB: @peak");
	return $peak[-1] - $peak[0];
}

# How often the partitions' indexes were looked into, by sessions that have ended.
sub lookups
{
	return $node->safe_psql($db, q{
		SELECT sum(idx_scan) FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname ~ '^event_(p|default)'});
}

$node->safe_psql($db, q{CREATE EXTENSION pg_outbox; CALL outbox.run()});
$node->safe_psql($db, qq{
	DO \$\$
	BEGIN
		FOR day IN 1..$partitions LOOP
			EXECUTE format('CREATE TABLE outbox.event_p_past_%s (LIKE outbox.event INCLUDING DEFAULTS)', day);
			EXECUTE format('CREATE INDEX ON outbox.event_p_past_%s (xid, id)', day);
			EXECUTE format('ALTER TABLE outbox.event ATTACH PARTITION outbox.event_p_past_%s'
						   ' FOR VALUES FROM (%L) TO (%L)', day,
						   timestamptz '2020-01-01' + day * interval '1 day',
						   timestamptz '2020-01-02' + day * interval '1 day');
		END LOOP;
	END \$\$});

# ---- partitions ----

$node->safe_psql($db, qq{
	DO \$\$
	BEGIN
		FOR i IN 1..$segments LOOP
			PERFORM outbox.publish('Single', key => i::text);
			COMMIT;
			CALL outbox.run();
		END LOOP;
	END \$\$});
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.segment'), $segments, 'a segment per event');

my $read = "SELECT count(*) FROM outbox.read(0, 1, '{Nothing}')";

cmp_ok(growth("SELECT count(*) FROM outbox.read(0, 1)", $read), '<', 1500,
	'reading many segments takes no more memory for many partitions');

# ---- retries ----

$node->safe_psql($db, q{
	CREATE TABLE gate (is_open boolean);
	INSERT INTO gate VALUES (false);
	CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, position bigint);
	CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT (SELECT is_open FROM gate) THEN
			RAISE 'not yet';
		END IF;
		INSERT INTO effect (position) VALUES (outbox.current_position());
	END $$;
	SELECT outbox.subscribe('waiting', '{Waiting}', handler => 'handler', batch_size => 50,
		backoff => '1 hour', max_attempts => 1000);
	SELECT count(outbox.publish('Waiting', key => 'k')) FROM generate_series(1, 500);
	CALL outbox.run();
});
is($node->safe_psql($db, "SELECT retrying + parked FROM outbox.status WHERE name = 'waiting'"),
	500, 'events are parked');
$node->safe_psql($db, q{
	UPDATE gate SET is_open = true;
	UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry'});

my $before = lookups();

$node->safe_psql($db, 'CALL outbox.run()');
# statistics may arrive a little after their session ended
$node->poll_query_until($db, qq{
	SELECT sum(idx_scan) >= $before + 500 FROM pg_stat_all_indexes
	WHERE schemaname = 'outbox' AND relname ~ '^event_(p|default)'});
is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT position) FROM effect'), '500|500',
	'then they drain');
# a few rounds look for new events in each partition
cmp_ok(lookups() - $before, '<', 500 * 3 + 20 * $partitions,
	'each is looked for where it is, not in every partition');

# ---- what is not kept ----

# Entries of the index on segments that sessions which have ended looked at.
sub segments_looked_at
{
	return $node->safe_psql($db, q{
		SELECT idx_tup_read FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND indexrelname = 'segment_pkey'});
}

# while a snapshot is held, most segments go, as by retention
$node->safe_psql($db, q{
	CREATE TABLE held ();
	BEGIN;
	LOCK TABLE held;
	SELECT pg_current_xact_id();
	PREPARE TRANSACTION 'held'});
$node->safe_psql($db, q{
	ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
	ALTER TABLE outbox.segment DISABLE TRIGGER refuse_change;
	DELETE FROM outbox.segment WHERE first_position <= 500;
	ALTER TABLE outbox.segment ENABLE ALWAYS TRIGGER refuse_change;
	ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS});

for my $query ('outbox.position_of((SELECT max(id) FROM outbox.event))', 'outbox.oldest()',
	'count(*) FROM outbox.read(0, 10)',
	'outbox.position_of((SELECT id FROM outbox.read(600, 1)))')
{
	$before = segments_looked_at();
	isnt($node->safe_psql($db, "SELECT $query"), '', $query);
	$node->poll_query_until($db, qq{
		SELECT idx_tup_read > $before FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND indexrelname = 'segment_pkey'});
	cmp_ok(segments_looked_at() - $before, '<', 200, 'costs the same, whatever was dropped before');
}
is($node->safe_psql($db, 'SELECT outbox.oldest()'), 501, 'the oldest one is right');
is($node->safe_psql($db, 'SELECT min(position), max(position), count(*) FROM outbox.read(7, 10000)'),
	'501|1200|700', 'and reading begins there');
$node->safe_psql($db, "COMMIT PREPARED 'held'");

# ---- a large transaction, read in parts ----

$node->safe_psql($db, "SELECT count(outbox.publish('Large')) FROM generate_series(1, 10000) i");
$node->safe_psql($db, 'CALL outbox.run()');

# Events that were fetched by sessions that have ended.
sub events_fetched
{
	return $node->safe_psql($db, q{
		SELECT sum(idx_tup_fetch) FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname ~ '^event_(p|default)'});
}

$before = events_fetched();
is($node->safe_psql($db, q{
	DO $$
	DECLARE
		place bigint := outbox.head() - 5000;
		read bigint := 0;
		n integer;
	BEGIN
		FOR i IN 1..50 LOOP
			SELECT count(*), max(position) INTO n, place FROM outbox.read(place, 100);
			read := read + n;
		END LOOP;
		PERFORM set_config('test.read', read || ' up to ' || (outbox.head() - place), false);
	END $$;
	SELECT current_setting('test.read')}), '5000 up to 0', 'a large transaction is read in parts');
# how many events it takes to read so many parts of 10, from a place in the last transaction
sub fetched_by_sessions
{
	my ($parts, $back) = @_;
	my $place = $node->safe_psql($db, 'SELECT outbox.head()') - $back;
	my $start = $place;
	my $fetched = events_fetched();

	for (1 .. $parts)
	{
		$place = $node->safe_psql($db, "SELECT max(position) FROM outbox.read($place, 10)");
	}
	is($place, $start + 10 * $parts, 'all are read');
	# statistics may arrive a little after their session ended
	$node->poll_query_until($db, qq{
		SELECT sum(idx_tup_fetch) >= $fetched + 10 * $parts FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname ~ '^event_(p|default)'});
	return events_fetched() - $fetched;
}

SKIP:
{
	skip 'statistics come when they like before 15', 7 if $node->safe_psql($db, 'SHOW server_version_num') < 150000;
	cmp_ok(events_fetched() - $before, '<', 6000, 'each goes on where the one before ended');

	# ---- the same, each part in another session ----

	cmp_ok(fetched_by_sessions(20, 5000), '<', 500, 'where its ids follow one another, nothing is counted');

	# with the library preloaded, sessions know of one another
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_outbox'\noutbox.max_workers = 0");
	$node->restart;
	$node->safe_psql($db, q{
		BEGIN;
		SELECT count(outbox.publish('Large')) FROM generate_series(1, 5000) i;
		SAVEPOINT undone;
		SELECT count(outbox.publish('Undone')) FROM generate_series(1, 10) i;
		ROLLBACK TO undone;
		SELECT count(outbox.publish('Large')) FROM generate_series(1, 5000) i;
		COMMIT});
	$node->safe_psql($db, 'CALL outbox.run()');
	my $first = fetched_by_sessions(1, 3000);
	cmp_ok($first, '>', 7000, 'elsewhere the events before have to be counted');
	cmp_ok(fetched_by_sessions(20, 2990), '<', 500, 'once, whatever session goes on');
}

$node->stop;
done_testing();
