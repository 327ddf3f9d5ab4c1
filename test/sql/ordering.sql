-- What waits behind a failing event (G5): its key, the subscription, or nothing.
CREATE EXTENSION pg_outbox;
CREATE TABLE effect (
    n integer GENERATED ALWAYS AS IDENTITY,
    subscription text DEFAULT outbox.current_subscription(),
    "position" bigint DEFAULT outbox.current_position(),
    attempt integer DEFAULT outbox.current_attempt(),
    key text
);
-- events say how often they fail
CREATE FUNCTION handler(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF outbox.current_attempt() <= coalesce((e.data ->> 'fails')::integer, 0) THEN
        RAISE EXCEPTION 'attempt % fails', outbox.current_attempt();
    END IF;
    INSERT INTO effect (key) VALUES (e.key);
END $$;
CREATE FUNCTION noted(subscription text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(e."position" || coalesce(e.key, '-') || CASE WHEN attempt > 1 THEN '/' || attempt ELSE '' END,
                      ' ' ORDER BY e.n)
    FROM effect e WHERE e.subscription = $1
$$;

-- all of them, while the first event of key a waits for an hour
SELECT outbox.subscribe(o, ordering => o, handler => 'handler', backoff => '1 hour')
FROM unnest('{key,strict,none}'::text[]) o;
SELECT outbox.subscribe('block', handler => 'handler', max_attempts => 1, on_exhausted => 'block');
SELECT outbox.subscribe('dead', handler => 'handler', max_attempts => 1);
SELECT outbox.publish_many('[{"type": "T", "key": "b"}, {"type": "T", "key": "a", "data": {"fails": 1}},
    {"type": "T", "key": "c"}, {"type": "T", "key": "a"}, {"type": "T"}, {"type": "T", "key": "b"}]');
CALL outbox.run();
SELECT name, noted(name), state, retrying, parked, dead FROM outbox.status ORDER BY name;
SELECT subscription, "position", attempts, blocking FROM outbox.dead_letter ORDER BY subscription;

-- what comes later waits as well
SELECT outbox.publish_many('[{"type": "T", "key": "a"}, {"type": "T", "key": "d"}]');
CALL outbox.run();
SELECT name, noted(name), state, retrying, parked, dead FROM outbox.status ORDER BY name;
SELECT name, outbox.wait(name, '0') FROM outbox.status ORDER BY name;
SELECT count(outbox.unsubscribe(name)) FROM outbox.status;
TRUNCATE effect;

-- an event without a key fails alone
SELECT outbox.subscribe('keyless', handler => 'handler', backoff => '1 hour', start => '9');
SELECT outbox.publish_many('[{"type": "T", "data": {"fails": 1}}, {"type": "T"}, {"type": "T", "key": "a"}]');
CALL outbox.run();
SELECT name, noted(name), retrying, parked FROM outbox.status;
SELECT outbox.unsubscribe('keyless');
TRUNCATE effect;

-- all come to their end, in the order that was asked for
SELECT outbox.subscribe(o, ordering => o, handler => 'handler', backoff => '0')
FROM unnest('{key,strict,none}'::text[]) o;
SELECT outbox.subscribe('lanes', concurrency => 4, handler => 'handler', backoff => '0');
SELECT outbox.publish_many('[{"type": "T", "key": "a"}, {"type": "T", "key": "b", "data": {"fails": 3}},
    {"type": "T", "key": "a", "data": {"fails": 2}}, {"type": "T", "key": "b"}, {"type": "T", "key": "a"},
    {"type": "T", "data": {"fails": 1}}, {"type": "T", "key": "b", "data": {"fails": 1}}, {"type": "T", "key": "a"}]');
CALL outbox.run();
SELECT subscription, count(*), count(DISTINCT "position") AS once,
       array_agg("position" - 11 ORDER BY n) FILTER (WHERE key = 'a') AS a,
       array_agg("position" - 11 ORDER BY n) FILTER (WHERE key = 'b') AS b
FROM effect WHERE subscription <> 'none' GROUP BY subscription ORDER BY subscription;
SELECT count(*), count(DISTINCT "position") AS once FROM effect WHERE subscription = 'none';
SELECT noted('strict');
SELECT name, lag, retrying, parked, dead, delivered, failed FROM outbox.status ORDER BY name;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE effect;
DROP FUNCTION noted(text);
