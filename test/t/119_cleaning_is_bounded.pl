# What a process remembers does not grow with what it has served, and what is
# cleaned up behind subscriptions is cleaned up in bounded steps.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

# without workers, so that it is known which process does it
my $node = new_server('cleaning', conf => [ "shared_preload_libraries = ''", 'fsync = off' ]);
my $db = 'postgres';

$node->safe_psql($db, q{
	CREATE EXTENSION pg_outbox;
	CREATE FUNCTION handler(event outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT $$;
});

# ---- lanes ----

SKIP:
{
	skip 'contexts cannot be seen before 14', 3
	  if $node->safe_psql($db, "SELECT current_setting('server_version_num')::integer") < 140000;

	$node->safe_psql($db, q{
		SELECT outbox.subscribe('wide' || i, handler => 'handler', concurrency => 1000)
		FROM generate_series(1, 4) i;
		SELECT outbox.publish('Some')});
	my ($served, $contexts, $bytes) = split /\|/, $node->safe_psql($db, q{
		CALL outbox.run();
		SELECT (SELECT count(*) FROM outbox.progress WHERE position > 0),
			count(*) FILTER (WHERE name = 'pg_outbox lane'),
			coalesce(sum(total_bytes) FILTER (WHERE name LIKE 'pg_outbox lane%'), 0)
		FROM pg_backend_memory_contexts});

	is($served, 4000, 'a session serves many lanes');
	is($contexts, 0, 'one that waits for nothing takes next to no memory');
	cmp_ok($bytes, '<', 700_000, 'and is forgotten');
	$node->safe_psql($db, 'SELECT outbox.unsubscribe(name) FROM outbox.status');
}

# ---- behind subscriptions that are gone ----

# Leaves rows of a subscription that is gone, and a lane of one that is not.
# A snapshot is held, so that what is deleted stays where it was.
$node->safe_psql($db, q{
	CREATE TABLE held ();
	BEGIN;
	LOCK TABLE held;
	SELECT pg_current_xact_id();
	PREPARE TRANSACTION 'held'});
by_hand($node, $db, 'delivery progress aggregate_window', q{
	SELECT outbox.subscribe('stays', handler => 'handler', concurrency => 2);
	SELECT outbox.subscribe('goes', handler => 'handler', concurrency => 2);
	CREATE TABLE gone AS SELECT id FROM outbox.subscription WHERE name = 'goes';
	INSERT INTO outbox.delivery (subscription, lane, "position", state, open, xid, event_id, attempts)
	SELECT id, i % 2, i, 'dead', false, '1', i, 1 FROM gone, generate_series(1, 25000) i;
	INSERT INTO outbox.progress (subscription, lane, version, "position", event_id, delivered, failed, "time")
	SELECT id, i % 2, 10 + i / 2, 1, 1, 1, 1, now() FROM gone, generate_series(1, 3000) i;
	INSERT INTO outbox.aggregate_window (subscription, key, version, open, events, since, latest, last_position, last_event_id)
	SELECT id, CASE WHEN i <= 20000 THEN 'k' || i % 4 END, i, false, 0, now(), now(), 1, 1
	FROM gone, generate_series(1, 25000) i;
	DELETE FROM outbox.subscription WHERE name = 'goes'});

my $began = $node->safe_psql($db, 'SELECT pg_current_xact_id()::text::bigint');

$node->safe_psql($db, 'CALL outbox.run()');

my $ended = $node->safe_psql($db, 'SELECT pg_current_xact_id()::text::bigint');

is($node->safe_psql($db, 'SELECT count(*) FROM outbox.aggregate_window'), 0,
	'windows that a subscription left behind go');
my $looked_at = q{SELECT sum(idx_tup_read) FROM pg_stat_all_indexes
	WHERE schemaname = 'outbox' AND indexrelname = 'aggregate_window_key_idx'};
$node->poll_query_until($db, "SELECT ($looked_at) >= 25000");
cmp_ok($node->safe_psql($db, $looked_at), '<', 2 * 25000, 'none is looked at by each step');
$node->safe_psql($db, "ROLLBACK PREPARED 'held'");
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.delivery'), 0,
	'what a subscription left behind goes');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.progress, gone WHERE subscription = id'), 0,
	'its progress, too');
is($node->safe_psql($db, "SELECT count(DISTINCT lane) FROM outbox.progress"), 2,
	'what another one has stays');
cmp_ok($ended - $began, '>', 53000 / 2000, 'in transactions of their own, a bounded number in each');

# ---- superseded progress ----

by_hand($node, $db, 'progress', q{
	SELECT outbox.subscribe('lanes' || i, handler => 'handler', concurrency => 100)
	FROM generate_series(1, 5) i;
	INSERT INTO outbox.progress (subscription, lane, version, "position", event_id, delivered, failed, "time")
	SELECT subscription, lane, version + i, "position", event_id, delivered, failed, "time"
	FROM outbox.progress p, generate_series(1, CASE WHEN lane = 7 THEN 4000 ELSE 900 END) i
	WHERE subscription IN (SELECT id FROM outbox.subscription WHERE name LIKE 'lanes%')});

# Rows of progress that sessions which have ended found by the index.
sub progress_read
{
	return $node->safe_psql($db, q{
		SELECT sum(idx_tup_read) FROM pg_stat_all_indexes
		WHERE schemaname = 'outbox' AND relname = 'progress'});
}

my $rows = $node->safe_psql($db, 'SELECT count(*) FROM outbox.progress');
my $before = progress_read();

# somebody else, like autovacuum, may have a snapshot from before
for (1 .. 300)
{
	$node->safe_psql($db, 'CALL outbox.run()');
	last if $node->safe_psql($db, 'SELECT max(n) FROM (SELECT count(*) AS n FROM outbox.progress GROUP BY subscription, lane) p') <= 1001;
	select(undef, undef, undef, 0.1);
	$before = progress_read();
}
is($node->safe_psql($db, 'SELECT max(n) FROM (SELECT count(*) AS n FROM outbox.progress GROUP BY subscription, lane) p'),
	1001, 'superseded progress goes, but for the last 1000');
is($node->safe_psql($db, 'SELECT count(*) FROM outbox.progress'), $rows - 5 * 3000,
	'and nothing else');
SKIP:
{
	skip 'statistics come when they like before 15', 1 if $node->safe_psql($db, 'SHOW server_version_num') < 150000;
	# deleting them, and a few looks at each lane
	cmp_ok(progress_read() - $before, '<', 5 * 3000 * 2 + 502 * 20, 'what is kept is not walked over');
}

$node->stop;
done_testing();
