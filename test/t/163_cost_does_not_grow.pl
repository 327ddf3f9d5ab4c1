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
	SELECT outbox.subscribe('fails', handler => 'fail', max_attempts => 1)});

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
	SELECT outbox.subscribe('fails', handler => 'fail', start => 'now');
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
