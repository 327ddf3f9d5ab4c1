-- Partitions are made ahead of need, and dropped whole when nobody needs them.
CREATE EXTENSION pg_outbox;
SET outbox.partition_interval = '1s';
SET TimeZone = 'UTC';

-- the partitions, with their bounds
CREATE VIEW part AS
    SELECT c.oid, c.relname::text,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('(.*)'\) TO$$))[1]::timestamptz AS lower,
           (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \('(.*)'\)$$))[1]::timestamptz AS upper
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'outbox.event'::regclass;
CREATE VIEW kept AS
    SELECT outbox.head(), outbox.oldest(), (SELECT count(*) FROM outbox.event) AS events,
           (SELECT count(*) FROM outbox.read()) AS readable,
           (SELECT coalesce(sum(events), 0) FROM outbox.segment) AS positions;
-- a handler, and events that it fails on
CREATE FUNCTION fails_on_demand(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.type = 'Fails' THEN RAISE 'as asked'; END IF;
END $$;

-- none at first: events are kept in the default partition
SELECT relname FROM part;
SELECT outbox.publish('Default', key => 'k') > 0 AS emitted FROM generate_series(1, 3);
CALL outbox.run();
SELECT tableoid::regclass, count(*) FROM outbox.event GROUP BY 1;
-- ahead of now, side by side; and further calls make no more
SELECT count(*) > 8 AS several, max(upper) > now() + interval '8 s' AS ahead,
       bool_and(upper - lower = interval '1 s') AS each_a_second,
       count(*) = extract(epoch FROM max(upper) - min(lower)) AS no_gap,
       bool_and(relname = to_char(lower, '"event_p"YYYYMMDD_HH24MISS')) AS named
FROM part WHERE upper IS NOT NULL;
SELECT max(upper) AS upper FROM part \gset
CALL outbox.run();
SELECT max(upper) <= :'upper'::timestamptz + interval '2 s' AS no_more FROM part;
SELECT pg_sleep(1.2);
SELECT outbox.publish('Later', key => 'k') > 0 AS emitted FROM generate_series(1, 3);
CALL outbox.run();
SELECT count(*) FROM outbox.event e JOIN part p ON p.oid = e.tableoid AND e."time" >= p.lower AND e."time" < p.upper;
TABLE kept;

-- retention is 7 days, and nothing is that old
SHOW outbox.retention;
SELECT outbox.apply_retention();
SET outbox.retention = -1;
SELECT outbox.apply_retention();
TABLE kept;

-- whole partitions go, once their time is up; the segments over them, too; the head stays
SELECT outbox.subscribe('keeps the last', channel => 'c');
SELECT outbox.pause('keeps the last');
SELECT pg_sleep(1.2);
SELECT outbox.publish('Last', key => 'k') > 0 AS emitted;
CALL outbox.run();
SET outbox.retention = 0;
SELECT outbox.apply_retention() > 1 AS dropped;
RESET outbox.retention;
TABLE kept;
SELECT type, "position" FROM outbox.read();
SELECT type, "position" FROM outbox.read(3);
SELECT outbox.position_of(1);
SELECT outbox.why_not_delivered(1);
SELECT count(*) AS old_ones FROM part WHERE upper < now() - interval '2 s';
SELECT * FROM outbox.event_default;
-- the rest
SELECT outbox.unsubscribe('keeps the last');
SELECT pg_sleep(2.1);
SET outbox.retention = 0;
SELECT outbox.apply_retention() > 0 AS dropped;
RESET outbox.retention;
TABLE kept;
SELECT * FROM outbox.read();
SELECT first_position, events FROM outbox.segment;
-- positions go on where they were
SELECT outbox.publish('Again') > 0 AS emitted;
CALL outbox.run();
TABLE kept;
SELECT first_position, events FROM outbox.segment;

-- what a subscription has not consumed is kept, whatever its state
SELECT outbox.subscribe('slow', handler => 'fails_on_demand');
SELECT outbox.pause('slow');
SELECT outbox.publish('Wanted') > 0 AS emitted;
CALL outbox.run();
SELECT pg_sleep(2.1);
SET outbox.retention = 0;
SELECT outbox.apply_retention() >= 0 AS ran;
SELECT type, "position" FROM outbox.read(8);
SELECT outbox.resume('slow');
CALL outbox.run();
SELECT lag, delivered, state FROM outbox.status;
SELECT outbox.apply_retention() >= 0 AS ran;
TABLE kept;
RESET outbox.retention;

-- so is what awaits a retry, or is a dead letter
SELECT outbox.publish('Fails', key => 'k') > 0 AS emitted;
CALL outbox.run();
SELECT outbox.publish('Fine', key => 'l') > 0 AS emitted;
CALL outbox.run();
SELECT lag, retrying FROM outbox.status;
SELECT pg_sleep(2.1);
SET outbox.retention = 0;
CALL outbox.run();
SELECT outbox.apply_retention() >= 0 AS ran;
SELECT type FROM outbox.event;
SELECT outbox.unsubscribe('slow');
SELECT outbox.apply_retention() > 0 AS dropped;
SELECT type FROM outbox.event;
RESET outbox.retention;

-- what this transaction has written, or has not been given a position, is kept
BEGIN;
SELECT outbox.publish('Own') > 0 AS emitted;
SELECT pg_sleep(2.1);
SET LOCAL outbox.retention = 0;
SELECT outbox.apply_retention() >= 0 AS ran;
COMMIT;
SET outbox.retention = 0;
SELECT outbox.apply_retention() >= 0 AS ran;
RESET outbox.retention;
SELECT type FROM outbox.event;
CALL outbox.run();
SELECT type FROM outbox.read();

-- max_retention takes what is not consumed, and the subscription is lost
SELECT outbox.subscribe('lost', handler => 'fails_on_demand');
SELECT outbox.subscribe('lost at a channel', channel => 'c');
SELECT outbox.pause('lost');
SELECT outbox.pause('lost at a channel');
SELECT outbox.publish('Lost') > 0 AS emitted;
CALL outbox.run();
SELECT outbox.head() AS head \gset
SELECT pg_sleep(3.1);
SELECT outbox.publish('Kept') > 0 AS emitted;
CALL outbox.run();
SET outbox.max_retention = 2;
SELECT outbox.apply_retention() > 0 AS dropped;
RESET outbox.max_retention;
SELECT outbox.oldest() = :head + 1 AS oldest, outbox.head() = :head + 1 AS head;
-- paused, for now
SELECT name, state, lag FROM outbox.status ORDER BY name;
SELECT outbox.resume('lost'), outbox.resume('lost at a channel');
SELECT name, state, lag, :head - "position" AS lost FROM outbox.status ORDER BY name;
CALL outbox.run();
SELECT name, state, replace(last_error, :'head', 'n') AS last_error FROM outbox.status ORDER BY name;
SELECT outbox.unsubscribe('lost'), outbox.unsubscribe('lost at a channel');

-- so are retries, and what is parked behind them: their subscriptions go on
SELECT outbox.subscribe('waits', types => '{Fails,Fine}', handler => 'fails_on_demand', backoff => '1 hour');
SELECT outbox.subscribe('waits for its consumer', types => '{Fails,Fine}', backoff => '1 hour');
SELECT outbox.publish('Fails', key => 'k') > 0, outbox.publish('Fine', key => 'k') > 0;
CALL outbox.run();
SELECT count(outbox.nack('waits for its consumer', receipt, "position"))
FROM outbox.receive('waits for its consumer', lease => '1 hour') WHERE type = 'Fails';
SELECT name, retrying, parked FROM outbox.status ORDER BY name;
SELECT outbox.head() AS head \gset
SELECT pg_sleep(3.1);
SELECT outbox.publish('Fine', key => 'k') > 0 AS emitted;
CALL outbox.run();
SET outbox.max_retention = 2;
SELECT outbox.apply_retention() > 0 AS dropped;
RESET outbox.max_retention;
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry' AND "position" <= :head;
\c -
SET outbox.partition_interval = '1s';
SET TimeZone = 'UTC';
CALL outbox.run();
SELECT count(outbox.ack('waits for its consumer', receipt)), min(type)
FROM outbox.receive('waits for its consumer', lease => '1 hour');
SELECT name, state, lag, retrying, parked, delivered, replace(replace(last_error, :'head', 'n'), (:head - 1)::text, 'n - 1') AS last_error
FROM outbox.status ORDER BY name;
SELECT outbox.unsubscribe(name) FROM outbox.status;

-- an event in the default partition that is not old keeps it whole
SELECT outbox.publish('Fresh') > 0 AS emitted;
CALL outbox.run();
SET outbox.retention = '1h';
SELECT outbox.apply_retention();
SELECT type FROM outbox.read((SELECT outbox.head() - 1));

-- only where it sees what is committed, and may write
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outbox.apply_retention();
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.apply_retention();
ROLLBACK;

-- a larger interval from now on: the next partition follows the last one
SET outbox.partition_interval = '1d';
CALL outbox.run();
SELECT bool_and(lower = previous) AS side_by_side, max(upper) > now() + interval '1 day' AS ahead,
       max(upper) = date_trunc('day', max(upper)) AS whole_days
FROM (SELECT lower, upper, lag(upper, 1, lower) OVER (ORDER BY lower) AS previous FROM part WHERE lower >= now() - interval '5 s') p;
SELECT outbox.publish('Daily') > 0 AS emitted;
CALL outbox.run();
SELECT type FROM outbox.read((SELECT outbox.head() - 1));

-- a strict reader is told that something was dropped before it was read
SELECT outbox.oldest() AS oldest, outbox.head() AS head \gset
SELECT :oldest > 2 AS dropped;
SELECT count(*) > 0 AS some FROM outbox.read(1);
\set VERBOSITY sqlstate
SELECT count(*) FROM outbox.read(1, strict => true);
SELECT count(*) FROM outbox.read(strict => true);
SELECT count(*) FROM outbox.read(:oldest - 2, strict => true);
\set VERBOSITY default
SELECT min(position) = :oldest AS first FROM outbox.read(:oldest - 1, strict => true);
SELECT count(*) FROM outbox.read(:head, strict => true);
DROP VIEW part, kept;
DROP FUNCTION fails_on_demand CASCADE;
DROP EXTENSION pg_outbox;
