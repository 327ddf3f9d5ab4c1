# What an aggregate has folded costs the same to find, however many batches
# there were, also while a snapshot is held; and nothing stays of windows that
# are complete (G7).
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('windows', conf => ["autovacuum = off"]);
my $db = 'postgres';

# Rows that scans of an index have come by.
sub rows_read
{
	my ($index) = @_;

	return $node->safe_psql($db, qq{
		SELECT idx_tup_read FROM pg_stat_all_indexes
		WHERE indexrelid = 'outbox.aggregate_window_${index}_idx'::regclass});
}

# Batches of one event each for a few keys; what reading cost for them, by key
# and by due time.
sub run_batches
{
	my ($count) = @_;
	my @before = map { rows_read($_) } qw(key due);

	$node->safe_psql($db, qq{
		DO \$\$
		BEGIN
			FOR i IN 1..$count LOOP
				PERFORM outbox.publish('Put', key => (i % 10)::text);
				COMMIT;
				PERFORM outbox.wait('often');
				COMMIT;
			END LOOP;
		END \$\$});
	# processes report what they have counted when they come to rest
	$node->poll_query_until($db, q{
		SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'pg_outbox dispatcher' AND state <> 'idle'});
	sleep 2;
	my @after = map { rows_read($_) } qw(key due);

	return map { $after[$_] - $before[$_] } 0, 1;
}

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION tally(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT to_jsonb(coalesce(state::int, 0) + 1) $$;
	SELECT outbox.aggregate('often', '{Put}', 'Often', 'tally', max_events => 50, quiet => '300 milliseconds');
	CREATE TABLE held ();
	BEGIN;
	LOCK TABLE held;
	SELECT pg_current_xact_id();
	PREPARE TRANSACTION 'held';
});

run_batches(100);
my @first = run_batches(1000);
note("rows read by key and by time: @first");
my @second = run_batches(1000);
note("then: @second");
cmp_ok($second[0], '<', 1.5 * $first[0], 'finding a window costs what it cost before');
cmp_ok($second[0], '<', 10 * 1000, 'which is little');
cmp_ok($second[1], '<', 10 * 1000, 'and so does finding what is due');

cmp_ok($node->safe_psql($db, q{SELECT count(*) FROM outbox.aggregate_window}),
	'>=', 2000, 'every batch has left a version, while the snapshot is held');
cmp_ok($node->safe_psql($db,
		"SELECT n_dead_tup FROM pg_stat_all_tables WHERE relid = 'outbox.aggregate_window'::regclass"),
	'<', 100, 'and none of them is a dead one');
wait_until($node, $db, q{SELECT count(*) = 0 FROM outbox.aggregation}, 'all windows end');
is($node->safe_psql($db, q{SELECT sum(data::int) FROM outbox.event WHERE type = 'Often'}),
	'2100', 'with all that was put');

# it ends; workers keep house by the clock
$node->safe_psql($db, "COMMIT PREPARED 'held'");
$node->safe_psql($db, 'CALL outbox.run()');
wait_until($node, $db, 'SELECT count(*) = 0 FROM outbox.aggregate_window',
	'when the snapshot is gone, so is all that was folded');

# nobody runs it here
$node->safe_psql($db, q{SELECT outbox.publish('Put', key => i::text) FROM generate_series(1, 100) i});
wait_until($node, $db, q{SELECT count(*) >= 100 FROM outbox.aggregate_window WHERE NOT open},
	'windows have ended');
wait_until($node, $db, q{SELECT count(*) = 0 FROM outbox.aggregate_window}, 'and soon leave nothing');

$node->stop;
done_testing();
