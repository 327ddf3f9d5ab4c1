# What a step costs does not grow with what was done before it, also while a
# snapshot keeps dead rows from being removed.  Counted in blocks and rows.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without workers, so that nobody else counts
my $node = new_server('growth',
	conf => [ "shared_preload_libraries = ''", 'fsync = off', 'autovacuum = off', 'outbox.retention = -1' ]);
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION fail(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
	CREATE TABLE held ();
	BEGIN;
	LOCK TABLE held;
	SELECT pg_current_xact_id();
	PREPARE TRANSACTION 'held'});

# The blocks of our table and its indexes that a session looks at.
sub blocks
{
	my ($table, $statement) = @_;
	my $looked_at = qq{
		SELECT heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
		FROM pg_statio_all_tables WHERE schemaname = 'outbox' AND relname = '$table'};
	my $before = $node->safe_psql($db, $looked_at);

	$node->safe_psql($db, $statement);
	# statistics may arrive a little after their session ended
	$node->poll_query_until($db, "SELECT ($looked_at) > $before");
	return $node->safe_psql($db, $looked_at) - $before;
}

# ---- failures ----

$node->safe_psql($db, q{
	SELECT outbox.subscribe('fails', '{t}', handler => 'fail', max_attempts => 1)});

my $some = q{SELECT count(outbox.publish('t')) FROM generate_series(1, 200); CALL outbox.run()};
my $first = blocks('failure', $some);
my $status = blocks('failure', 'SELECT * FROM outbox.status');

$node->safe_psql($db, q{SELECT count(outbox.publish('t')) FROM generate_series(1, 3000); CALL outbox.run()});
is($node->safe_psql($db, 'SELECT failed FROM outbox.status'), 3200, 'events fail');
cmp_ok(blocks('failure', $some), '<', 1.5 * $first, 'the last failure costs what the first one did');
cmp_ok(blocks('failure', 'SELECT * FROM outbox.status'), '<', $status + 10,
	'and to read what it was costs the same');
is($node->safe_psql($db, 'SELECT last_error FROM outbox.status'), 'no', 'which is noted');

$node->safe_psql($db, "ROLLBACK PREPARED 'held'");

# ---- what is parked ----

# The rows of deliveries that a session looks at.
sub deliveries
{
	my ($statement) = @_;
	my $looked_at = q{
		SELECT sum(idx_tup_read) + (SELECT sum(seq_tup_read) FROM pg_stat_all_tables WHERE relname = 'delivery')
		FROM pg_stat_all_indexes WHERE schemaname = 'outbox' AND relname = 'delivery'};
	my $before = $node->safe_psql($db, $looked_at);
	my $result = $node->safe_psql($db, $statement);

	$node->poll_query_until($db, "SELECT ($looked_at) > $before");
	return ($node->safe_psql($db, $looked_at) - $before, $result);
}

my $give_back = q{SELECT outbox.release('pull', receipt) FROM (
	SELECT receipt FROM outbox.progress WHERE receipt IS NOT NULL ORDER BY receipt DESC LIMIT 1) p};
my ($rows, $result);

$node->safe_psql($db, q{
	SELECT outbox.subscribe('pull', '{Some}', start => 'now', backoff => '1 hour');
	SELECT count(outbox.publish('Some', key => 'parked')) FROM generate_series(1, 3000);
	SELECT outbox.publish('Some', key => 'other') FROM generate_series(1, 5);
	CALL outbox.run()});
# the first one fails when all are handed out
$node->safe_psql($db, qq{
	SELECT outbox.nack('pull', receipt, min(position)) FROM outbox.receive('pull', 3003, '1 hour') GROUP BY receipt;
	$give_back});
is($node->safe_psql($db, q{SELECT retrying, parked FROM outbox.status WHERE name = 'pull'}), '1|2999',
	'events are parked');
for my $session (1, 2)
{
	($rows, $result) = deliveries(q{SELECT count(*), min(key) FROM outbox.receive('pull', 1, '1 hour')});
	is($result, '1|other', 'another session receives what does not wait');
	cmp_ok($rows, '<', 100, 'and does not look at each that does');
	$node->safe_psql($db, $give_back);
}
$node->safe_psql($db, q{
	SELECT outbox.redrive('pull', min(position)) FROM outbox.waiting WHERE subscription = 'pull' AND state = 'retrying'});

# the other ones come between them, so that both are counted
my $received = 0;

for (1 .. 40)
{
	my $n = $node->safe_psql($db, q{
		WITH event AS MATERIALIZED (SELECT * FROM outbox.receive('pull', 100, '1 hour')),
			acked AS MATERIALIZED (SELECT outbox.ack('pull', receipt) FROM (SELECT DISTINCT receipt FROM event) r)
		SELECT (SELECT count(*) FROM event) + 0 * (SELECT count(*) FROM acked)});

	$received += $n;
	last if $n == 0;
}
is($received, 3005, 'all of them come in the end, to one session after another');
is($node->safe_psql($db, q{
	SELECT count(*) FROM outbox.delivery JOIN outbox.subscription ON id = subscription WHERE name = 'pull'}), 0,
	'and are dealt with');

# an event without a key fails: nothing waits for it
$node->safe_psql($db, q{
	SELECT count(outbox.publish('Some')) FROM generate_series(1, 3000);
	CALL outbox.run()});
my $receipt = $node->safe_psql($db, q{SELECT min(receipt) FROM outbox.receive('pull', 3000, '1 hour')});
my $read = q{
	SELECT sum(idx_tup_read) FROM pg_stat_all_indexes
	WHERE schemaname = 'outbox' AND relname ~ '^event_(p|default)'};
my $read_before = $node->safe_psql($db, $read);
$node->safe_psql($db, qq{SELECT outbox.nack('pull', $receipt, outbox.head() - 2500)});
$node->poll_query_until($db, "SELECT ($read) > $read_before");
cmp_ok($node->safe_psql($db, $read) - $read_before, '<', 1000, 'a nack does not read what is handed out behind');
$node->safe_psql($db, q{SELECT outbox.unsubscribe('pull')});

# ---- unsubscribing ----

# Rows of our tables that sessions which have ended deleted.
sub deleted
{
	return $node->safe_psql($db, q{
		SELECT sum(n_tup_del) FROM pg_stat_all_tables
		WHERE schemaname = 'outbox' AND relname IN ('subscription', 'progress', 'delivery', 'failure', 'aggregate_window')});
}

is($node->safe_psql($db, 'SELECT count(*) FROM outbox.dead_letter'), 3400, 'there are many dead letters');
my $before = deleted();
$node->safe_psql($db, q{SELECT outbox.unsubscribe('fails')});
$node->poll_query_until($db, qq{
	SELECT sum(n_tup_del) > $before FROM pg_stat_all_tables
	WHERE schemaname = 'outbox' AND relname IN ('subscription', 'progress', 'delivery', 'failure', 'aggregate_window')});
cmp_ok(deleted() - $before, '<=', 2001, 'unsubscribing deletes a bounded number of rows');
is($node->safe_psql($db, q{
	SELECT (SELECT count(*) FROM outbox.status), (SELECT count(*) FROM outbox.dead_letter),
		(SELECT count(*) FROM outbox.waiting), (SELECT count(*) FROM outbox.metrics WHERE labels::text ~ 'fails')}),
	'0|0|0|0', 'nothing is shown of it any more');
is($node->safe_psql($db, q{
	SELECT outbox.subscribe('fails', '{t}', handler => 'fail', start => 'now');
	SELECT count(*), sum(failed), sum(dead) FROM outbox.status}), "\n1|0|0", 'its name is free');

my $left = q{
	SELECT (SELECT count(*) FROM outbox.delivery) + (SELECT count(*) FROM outbox.failure)
		+ (SELECT count(DISTINCT subscription) FROM outbox.progress)};

cmp_ok($node->safe_psql($db, $left), '>', 1400, 'the rest of what it had is still there');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_outbox'");
$node->restart;
wait_until($node, $db, "SELECT ($left) = 1", 'and goes in the background');
$node->safe_psql($db, q{
	SELECT count(outbox.publish('t')) FROM generate_series(1, 10)});
wait_until($node, $db, 'SELECT dead + retrying > 0 FROM outbox.status', 'a subscription fails again');
$node->safe_psql($db, q{SELECT outbox.unsubscribe('fails')});
wait_until($node, $db, "SELECT ($left) = 0", 'what it leaves goes, too');
$node->stop;
done_testing();
