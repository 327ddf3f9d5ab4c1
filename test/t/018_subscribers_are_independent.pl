# A subscription that is stuck, fails, is paused or broken delays no producer
# and no other subscription (G6); and when it can go on, it has missed nothing.
use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use OutboxServer;
use Test::More;

my $node = new_server('independent', conf => ['outbox.max_workers = 3']);
my $db = 'postgres';

install_orders($node, $db);
$node->safe_psql($db, q{
	CREATE TABLE gate (open boolean);
	INSERT INTO gate VALUES (false);
	CREATE FUNCTION stuck_handler(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (handler, id) VALUES ('stuck', (event->'data'->>'id')::integer);
		WHILE NOT (SELECT open FROM gate) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
	END $$;
	CREATE FUNCTION failing_handler(event jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO effect (handler, id) VALUES ('failing', (event->'data'->>'id')::integer);
		IF NOT (SELECT open FROM gate) THEN
			RAISE EXCEPTION 'the gate is closed';
		END IF;
	END $$;
	CREATE FUNCTION paused_handler(event jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO effect (handler, id) VALUES ('paused', (event->'data'->>'id')::integer) $$;
	CREATE FUNCTION broken_handler(event jsonb) RETURNS void LANGUAGE sql AS $$
		INSERT INTO effect (handler, id) VALUES ('broken', (event->'data'->>'id')::integer) $$;

	SELECT outbox.subscribe('stuck', handler => 'stuck_handler', timeout => '0');
	SELECT outbox.subscribe('failing', handler => 'failing_handler',
		max_attempts => 1000000, backoff => '10 milliseconds', max_backoff => '50 milliseconds');
	SELECT outbox.subscribe('paused', handler => 'paused_handler');
	SELECT outbox.subscribe('broken', handler => 'broken_handler');
	SELECT outbox.subscribe('quick', handler => 'quick_handler');
	SELECT outbox.subscribe('channel', channel => 'orders');
	SELECT outbox.pause('paused');
	ALTER FUNCTION broken_handler(jsonb) RENAME TO gone_handler;
});

# a transaction each
quick($node, $db,
	'DO $$ BEGIN FOR i IN 1..200 LOOP INSERT INTO orders (amount) VALUES (i); COMMIT; END LOOP; END $$',
	'producers do not wait');
is($node->safe_psql($db, "SELECT outbox.wait('quick', '1 minute'), outbox.wait('channel', '1 minute')"),
	't|t', 'others go on');
effects_are_exact($node, $db, 'quick', 'what goes on is exact');
wait_until($node, $db,
	"SELECT retrying + parked = 200 FROM outbox.status WHERE name = 'failing'",
	'every order of the failing one waits for its own retry');
wait_until($node, $db,
	"SELECT last_error LIKE '%does not exist%' AND state = 'broken' FROM outbox.status WHERE name = 'broken'",
	'the status says what is broken');
is( $node->safe_psql($db, "SELECT string_agg(name || ' ' || lag, ', ' ORDER BY name)
		FROM outbox.status WHERE name IN ('stuck', 'paused', 'broken')"),
	'broken 200, paused 200, stuck 200',
	'who cannot go on has not moved');
is($node->safe_psql($db, "SELECT DISTINCT handler FROM effect"),
	'quick', 'and has no effect');

# all can go on
$node->safe_psql($db, q{
	UPDATE gate SET open = true;
	SELECT outbox.resume('paused');
	ALTER FUNCTION gone_handler(jsonb) RENAME TO broken_handler;
});
for my $handler (qw(stuck failing paused broken))
{
	wait_for_effects($node, $db, $handler, 200, "the $handler one goes on");
	effects_are_exact($node, $db, $handler, "the $handler one has missed nothing");
}

# one dispatcher for a slow and a quick one: they take turns
$node->safe_psql($db, 'ALTER SYSTEM SET outbox.max_workers = 1');
$node->reload;
$node->safe_psql($db, q{
	SELECT outbox.unsubscribe(name) FROM outbox.status WHERE name <> 'quick';
	UPDATE nap SET seconds = 0.05;
	SELECT outbox.subscribe('slow', handler => 'slow_handler', start => 'beginning');
});
wait_until($node, $db, "SELECT count(*) > 0 FROM effect WHERE handler = 'slow'",
	'the only dispatcher is busy');
insert_orders($node, $db, 10);
wait_for_effects($node, $db, 'quick', 210, 'the quick one gets its turn');
cmp_ok($node->safe_psql($db, "SELECT count(*) FROM effect WHERE handler = 'slow'"),
	'<', 200, 'before the slow one is through');
$node->safe_psql($db, 'UPDATE nap SET seconds = 0');
wait_for_effects($node, $db, 'slow', 210, 'which gets through, too');
effects_are_exact($node, $db, 'slow', 'exactly once');

$node->stop;
done_testing();
