# What is kept beside the events grows with batches, not with events times
# subscriptions; and a snapshot that is held makes nothing slower (G7).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('bounded');
my $db = 'postgres';

# Pages that finding where the lane stands has to look at.
sub pages_for_progress
{
	my $plan = $node->safe_psql($db, q{
		SET enable_seqscan = off;
		SET enable_bitmapscan = off;
		EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF)
		SELECT position FROM outbox.progress
		WHERE subscription = (SELECT min(id) FROM outbox.subscription) AND lane = 0
		ORDER BY version DESC LIMIT 1});
	my ($hit)  = $plan =~ /Buffers: shared.*?hit=(\d+)/;
	my ($read) = $plan =~ /Buffers: shared[^\n]*?read=(\d+)/;

	return ($hit // 0) + ($read // 0);
}

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE TABLE effect (n bigint);
	INSERT INTO effect VALUES (0);
	CREATE FUNCTION handler(events outbox.event[]) RETURNS void LANGUAGE sql AS $$ SELECT $$;
	SELECT outbox.subscribe('s' || i, handler => 'handler') FROM generate_series(1, 30) i;
});

# many events for many subscriptions
$node->safe_psql($db, "SELECT count(outbox.publish('Bulk', key => i::text)) FROM generate_series(1, 20000) i");
is($node->safe_psql($db, "SELECT outbox.wait(timeout => '2 minutes')"), 't', '600000 deliveries');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.delivery'), 0, 'success leaves no row');
cmp_ok($node->safe_psql($db, 'SELECT count(*) FROM outbox.progress'),
	'<', 30 * 20000 / 100, 'progress has a row per batch at most');

# many batches, while a snapshot is held
$node->safe_psql($db, q{
	SELECT outbox.unsubscribe(name) FROM outbox.status WHERE name <> 's1';
	CREATE TABLE held ();
	BEGIN;
	LOCK TABLE held;
	SELECT pg_current_xact_id();
	PREPARE TRANSACTION 'held';
});
my $first = pages_for_progress();
my $batches = $node->safe_psql($db, "SELECT count(*) FROM outbox.progress WHERE subscription = 1");

$node->safe_psql($db, q{
	DO $$
	BEGIN
		FOR i IN 1..3000 LOOP
			PERFORM outbox.publish('Single', key => i::text);
			COMMIT;
			PERFORM outbox.wait('s1');
			COMMIT;
		END LOOP;
	END $$});
$batches = $node->safe_psql($db, "SELECT count(*) FROM outbox.progress WHERE subscription = 1") - $batches;
cmp_ok($batches, '>=', 3000, 'every event was a batch, and while the snapshot is held its row stays');
cmp_ok(pages_for_progress(), '<=', $first + 3, 'but finding the newest costs no more');
cmp_ok($node->safe_psql($db,
		"SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'outbox.progress'::regclass"),
	'<', 1000, 'and none of them is a dead version');

# it ends; workers keep house by the clock, run() at once, unless somebody else,
# like autovacuum, has a snapshot from before
$node->safe_psql($db, "COMMIT PREPARED 'held'");
my $rows;
for (1 .. 300)
{
	$node->safe_psql($db, 'CALL outbox.run()');
	$rows = $node->safe_psql($db, 'SELECT count(*) FROM outbox.progress');
	last if $rows < 1100;
	select(undef, undef, undef, 0.1);
}
cmp_ok($rows, '<', 1100, 'then they go, but for the last 1000');
is($node->safe_psql($db, "SELECT position = head FROM outbox.status WHERE name = 's1'"),
	't', 'and the progress is where it was');

$node->stop;
done_testing();
