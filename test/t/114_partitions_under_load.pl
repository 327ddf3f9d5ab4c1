# Partitions are made on a server that is never idle, and dropped with all that
# is in them, while producers notice nothing: no table is scanned for it.  A
# clock that was a year ahead for a while stops neither.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use File::Temp qw(tempdir);
use IPC::Run ();
use OutboxServer;
use POSIX ();
use Test::More;

# Far more than producers wait for us, for the machine may be busy.
my $longest_wait = 2000;

my $db = 'postgres';
my $node = new_server(
	'busy',
	conf => [
		'log_statement = none', 'log_min_messages = warning', 'fsync = off',
		'outbox.retention = -1', 'outbox.partition_interval = 5s' ]);
$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE VIEW part AS
		SELECT c.oid, c.relname::text AS name,
			   (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('(.*)'\) TO$$))[1]::timestamptz AS lower,
			   (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \('(.*)'\)$$))[1]::timestamptz AS upper
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = 'outbox.event'::regclass;
	CREATE TABLE slow (ms float);
	CREATE FUNCTION publish() RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		began timestamptz := clock_timestamp();
	BEGIN
		PERFORM outbox.publish('t');
		IF clock_timestamp() > began + interval '2 ms' THEN
			INSERT INTO slow VALUES (1000 * extract(epoch FROM clock_timestamp() - began));
		END IF;
	END $$;
	-- scans of whole tables, but for those of this test
	CREATE FUNCTION scans(name text) RETURNS bigint LANGUAGE sql AS
		$$ SELECT coalesce(sum(seq_scan), 0)::bigint FROM pg_stat_user_tables WHERE schemaname = 'outbox' AND relname ~ name $$});

# ---- load ----

my $scratch = tempdir(CLEANUP => 1);
my @loads;
END { kill('KILL', @loads) if @loads; }

sub start_load
{
	my ($name, $script, @options) = @_;
	my $pid;

	open(my $file, '>', "$scratch/$name") or die "could not write: $!";
	print $file $script;
	close($file);
	$pid = fork() // die "could not fork: $!";
	if ($pid == 0)
	{
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>&', \*STDOUT);
		exec('pgbench', '-n', '-h', $node->host, '-p', $node->port, '-T', 600, @options,
			'-f', "$scratch/$name", $db)
		  or POSIX::_exit(127);
	}
	push @loads, $pid;
	return;
}

sub stop_loads
{
	kill('TERM', @loads);
	waitpid($_, 0) foreach @loads;
	@loads = ();
	return;
}

# In milliseconds, since the last call.
sub longest
{
	return int($node->safe_psql($db,
			'WITH slow AS (DELETE FROM slow RETURNING ms) SELECT coalesce(max(ms), 0) FROM slow'));
}

# The sequencer begins anew, and looks at once at what it looks at by the minute.
sub set_retention
{
	my ($retention) = @_;

	$node->safe_psql($db, "ALTER SYSTEM SET outbox.retention = '$retention'");
	$node->reload;
	$node->safe_psql($db, q{
		SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_outbox sequencer'});
	return;
}

# ---- a server that is never idle ----

# someone has the default partition until the load is on
my $holder = IPC::Run::start(
	[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', $db, '-c',
		'BEGIN; LOCK TABLE outbox.event_default IN ACCESS SHARE MODE; SELECT pg_sleep(600)' ],
	'>', '/dev/null', '2>', '/dev/null');
wait_until($node, $db,
	q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'outbox.event_default'::regclass AND mode = 'AccessShareLock'},
	'the default partition is in use');
start_load('quick', "SELECT publish();\n", '-c', 4);
wait_until($node, $db, 'SELECT outbox.head() > 5000', 'events come');
is($node->safe_psql($db, 'SELECT count(*) FROM part WHERE upper IS NOT NULL'), 0,
	'no partition could be made');
# its indexes were built
my $scans = $node->safe_psql($db, q{SELECT scans('^event_default$')});
$node->safe_psql($db, q{
	SELECT pg_terminate_backend(pid) FROM pg_locks
	WHERE relation = 'outbox.event_default'::regclass AND mode = 'AccessShareLock' AND granted
	  AND pid IN (SELECT pid FROM pg_stat_activity WHERE query LIKE '%LOCK TABLE%' AND pid <> pg_backend_pid())});
$holder->finish;
wait_until($node, $db, 'SELECT count(*) > 0 FROM part WHERE upper IS NOT NULL',
	'one is made although producers never leave the default partition');
wait_until($node, $db, 'SELECT max(upper) > now() + interval $$8 s$$ FROM part', 'and the next');
wait_until($node, $db,
	'SELECT sum(pg_relation_size(oid)) > 0 FROM part WHERE upper IS NOT NULL', 'events go there');
stop_loads();
my $wait = longest();
note("longest publish while partitions were made: $wait ms");
cmp_ok($wait, '<', $longest_wait, 'no producer waited for long');
is($node->safe_psql($db, q{SELECT scans('^event_default$')}), $scans,
	'the default partition was not scanned for it');

# ---- retention ----

# many events, that all are of the default partition or of one that has ended
$node->safe_psql($db, q{ALTER SYSTEM SET outbox.partition_interval = '1s'});
$node->reload;
$node->safe_psql($db, q{
	DO $$ BEGIN FOR i IN 1 .. 300 LOOP
		PERFORM outbox.publish_many((SELECT jsonb_agg(jsonb_build_object('type', 'bulk')) FROM generate_series(1, 500)));
		COMMIT;
	END LOOP; END $$});
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 s')}), 't', 'all have positions');
start_load('quick', "SELECT publish();\n", '-c', 2, '-R', 200);
start_load('new', "SELECT publish();\n", '-c', 1, '-C', '-R', 20);
set_retention('1s');
wait_until($node, $db, q{SELECT count(*) = 0 FROM outbox.event_default},
	'what came before there were partitions goes');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.segment WHERE first_position < (SELECT outbox.oldest())}),
	0, 'with its positions');
stop_loads();
$wait = longest();
note("longest publish while partitions were dropped: $wait ms");
cmp_ok($wait, '<', $longest_wait, 'no producer waited for long');

# ---- a clock that was ahead ----

set_retention('-1');
$node->safe_psql($db, q{
	CREATE TABLE outbox.event_ahead (LIKE outbox.event INCLUDING DEFAULTS);
	CREATE INDEX ON outbox.event_ahead (xid, id);
	ALTER TABLE outbox.event ATTACH PARTITION outbox.event_ahead
		FOR VALUES FROM ('2099-01-01 00:00:00+00') TO ('2099-01-02 00:00:00+00')});
$node->safe_psql($db, q{SELECT outbox.publish('before')});
wait_until($node, $db, q{SELECT max(upper) > now() + interval '2 s' FROM part WHERE upper < '2099-01-01'},
	'partitions are made for now');
$node->safe_psql($db, q{SELECT pg_sleep(1.1), outbox.publish('ahead')});
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 s')}), 't', 'an event has a position');
# as if its segment had been made a year ahead, so that all later ones say so
$node->safe_psql($db, q{
	ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
	ALTER TABLE outbox.segment DISABLE TRIGGER refuse_change;
	UPDATE outbox.segment SET "time" = '2099-01-01', latest_time = '2099-01-01'
	WHERE first_position = (SELECT max(first_position) FROM outbox.segment);
	ALTER TABLE outbox.segment ENABLE ALWAYS TRIGGER refuse_change;
	ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS});
my $ahead = $node->safe_psql($db, 'SELECT outbox.head()');
$node->safe_psql($db, q{SELECT pg_sleep(1.1), outbox.publish('after')});
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 s')}), 't', 'so has the next');
my $time = $node->safe_psql($db, 'SELECT clock_timestamp()');
$node->safe_psql($db, q{SELECT pg_sleep(1.1), outbox.publish('last')});
is($node->safe_psql($db, q{SELECT outbox.wait(timeout => '60 s')}), 't', 'and the last');
is($node->safe_psql($db, q{SELECT count(*) FROM outbox.segment WHERE latest_time >= '2099-01-01'}), 3,
	'the wrong time is in all that follow');
like($node->safe_psql($db, qq{
	BEGIN;
	SELECT outbox.subscribe('since', channel => 'c', start => '$time');
	SELECT 'at ' || "position" FROM outbox.progress;
	ROLLBACK}), qr/^at ${\($ahead + 1)}$/m,
	'who subscribes from a time on starts there all the same');
set_retention('1s');
wait_until($node, $db, "SELECT coalesce(outbox.oldest(), $ahead + 3) > $ahead + 1", 'retention goes on');
wait_until($node, $db, q{SELECT count(*) = 0 FROM outbox.event}, 'to the end');
is($node->safe_psql($db, q{SELECT count(*) FROM part WHERE name = 'event_ahead'}), 1,
	'a partition that is for later and empty stays');

$node->stop;
done_testing();
