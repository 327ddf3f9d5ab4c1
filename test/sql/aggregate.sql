-- Aggregates: many events, one new event, key by key.
CREATE EXTENSION pg_outbox;
SET application_name = 'aggregate';
SET client_min_messages = notice;

-- The state is what was folded, in order; what is in an event says how the
-- reducer goes wrong.
CREATE TABLE broken (what text);
CREATE FUNCTION gather(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM broken b WHERE b.what = event.data->>'what') THEN
        RAISE '% fails', event.data->>'what';
    END IF;
    RETURN coalesce(state, '[]') || (event.data->'what');
END $$;
CREATE FUNCTION emit(key text, VARIADIC what text[]) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(outbox.publish('Said', jsonb_build_object('what', w), key => emit.key)) FROM unnest(what) w $$;
CREATE VIEW emitted AS
SELECT r.position, r.type, r.source, r.key, r.data, r.headers,
       r.correlation_id, r.causation_id
FROM outbox.read(max_events => 100000) r WHERE r.source LIKE 'aggregate:%' ORDER BY r.position;
CREATE VIEW open AS
SELECT name, key, state, events, since <= now() AS since, due - since AS due FROM outbox.aggregation ORDER BY name, key;
CREATE VIEW stands AS
SELECT name, kind, state, position, lag, retrying, parked, dead, delivered, failed, last_error FROM outbox.status;

-- after so many events; those without a key are one group
SELECT outbox.aggregate('three', '{Said}', 'Heard', 'gather', max_events => 3);
SELECT emit('a', 'a1', 'a2'), emit('b', 'b1'), emit(NULL, 'n1', 'n2'), emit('a', 'a3', 'a4'), emit('', 'e1'), emit(NULL, 'n3');
CALL outbox.run();
SELECT * FROM emitted;
SELECT * FROM open;
SELECT * FROM stands;
-- the rest of a window comes in another batch
SELECT emit('b', 'b2', 'b3', 'b4'), emit('a', 'a5');
CALL outbox.run();
SELECT * FROM emitted WHERE position > 10;
SELECT * FROM open;
SELECT outbox.wait();
SELECT outbox.unsubscribe('three');
SELECT * FROM open;
SELECT count(*) FROM outbox.aggregate_window;

-- patterns may match what it emits: that is left out
SELECT outbox.aggregate('all', '{*}', 'Heard', 'gather', max_events => 1);
SELECT emit('w', 'w1', 'w2');
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:all';
SELECT outbox.unsubscribe('all');

-- until its condition holds, or after so many, whichever is first
SELECT outbox.aggregate('bang', '{Said}', 'Heard', 'gather', max_events => 4, until => $$ state->>-1 = '!' $$);
SELECT emit('c', 'c1', '!', '!', 'c2', 'c3', 'c4', 'c5', 'c6', '!');
CALL outbox.run();
SELECT key, data, jsonb_array_length(headers->'causes') AS causes FROM emitted WHERE source = 'aggregate:bang';
SELECT * FROM open;
SELECT outbox.unsubscribe('bang');

-- correlation and trace of the first, cause the last; nothing else is handed down
SELECT outbox.aggregate('pair', '{Said}', 'Heard', 'gather', max_events => 2);
BEGIN;
SET LOCAL outbox.correlation_id = 'first';
SET LOCAL outbox.traceparent = '00-11111111111111111111111111111111-1111111111111111-01';
SELECT outbox.publish('Said', '{"what": 1}', 'p', headers => '{"tenant": "one"}') > 0;
COMMIT;
BEGIN;
SET LOCAL outbox.correlation_id = 'second';
SET LOCAL outbox.traceparent = '00-22222222222222222222222222222222-2222222222222222-01';
SELECT outbox.publish('Said', '{"what": 2}', 'p', headers => '{"tenant": "two"}') > 0;
COMMIT;
-- the settings of the session that runs do not matter
SET outbox.correlation_id = 'session';
SET outbox.headers = '{"session": true}';
CALL outbox.run();
RESET outbox.correlation_id;
RESET outbox.headers;
SELECT m.data, m.correlation_id, m.headers - 'causes' AS headers, c.data AS cause
FROM emitted m JOIN outbox.event c ON c.id = m.causation_id WHERE m.source = 'aggregate:pair';
SELECT outbox.unsubscribe('pair');

-- by a filter; what does not pass opens no window
SELECT outbox.aggregate('few', '{Sa*}', 'Heard', 'gather', max_events => 2, filter => $$ data->>'what' LIKE 'f%' $$);
SELECT emit('f', 'f1', 'g1'), emit('g', 'g2'), emit('f', 'g3', 'f2');
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:few';
SELECT count(*) FROM open;
SELECT outbox.unsubscribe('few');

-- any jsonb is a state; a state of NULL is emitted as null
CREATE FUNCTION total(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS
$$ SELECT to_jsonb((coalesce(state, '0')::numeric) + nullif((event.data->>'n')::numeric, 0)) $$;
SELECT outbox.aggregate('total', '{Counted}', 'Total', 'total', max_events => 2);
SELECT count(outbox.publish('Counted', jsonb_build_object('n', n))) FROM unnest('{3,4,5,0,0,6}'::int[]) n;
CALL outbox.run();
SELECT data, data IS NULL AS none FROM emitted WHERE source = 'aggregate:total';
SELECT outbox.unsubscribe('total');

-- the first 1,000 causes
CREATE FUNCTION counted(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS
$$ SELECT to_jsonb(coalesce(state::int, 0) + 1) $$;
SELECT outbox.aggregate('many', '{Counted}', 'Many', 'counted', max_events => 2500);
SELECT outbox.alter_subscription('many', batch_size => 300);
SELECT count(outbox.publish('Counted')) FROM generate_series(1, 2600) n;
CALL outbox.run();
SELECT e.data, jsonb_array_length(e.headers->'causes') AS causes, count(DISTINCT c) AS different,
       (e.headers->'causes'->>0)::bigint = min(c::bigint) AS first,
       e.causation_id - max(c::bigint) AS last,
       e.correlation_id = e.headers->'causes'->>0 AS correlation
FROM emitted e, jsonb_array_elements_text(e.headers->'causes') c WHERE source = 'aggregate:many' GROUP BY e.data, e.headers, e.causation_id, e.correlation_id;
SELECT name, key, state, events FROM outbox.aggregation;
SELECT outbox.unsubscribe('many');

-- when nothing has come for a while, and some time after the first: with
-- intervals that do not pass here
SELECT outbox.aggregate('quiet', '{Said}', 'Quiet', 'gather', quiet => '1 hour');
SELECT outbox.aggregate('period', '{Said}', 'Period', 'gather', period => '2 hours');
SELECT outbox.aggregate('both', '{Said}', 'Both', 'gather', quiet => '3 hours', period => '90 minutes', until => $$ state->>-1 = '!' $$);
SELECT emit('t', 't1');
CALL outbox.run();
SELECT emit('t', 't2');
CALL outbox.run();
SELECT a.name, a.key, a.state, a.events, a.due - s.time AS due,
       a.since = (SELECT min(time) FROM (SELECT time FROM outbox.segment ORDER BY first_position DESC LIMIT 2) l) AS since
FROM outbox.aggregation a, (SELECT max(time) AS time FROM outbox.segment) s WHERE name = 'quiet' ORDER BY name;
SELECT * FROM open WHERE name <> 'quiet';
SELECT emit('t', '!');
CALL outbox.run();
SELECT name, key, state, events FROM outbox.aggregation ORDER BY name;
SELECT outbox.unsubscribe(name) FROM outbox.status;

-- their time is the log's: two events of a segment are of one window, however
-- late they are folded; the next segment is a later time
SELECT outbox.aggregate('short', '{Said}', 'Short', 'gather', quiet => '1 microsecond');
SELECT outbox.pause('short');
SELECT emit('q', 'q1', 'q2');
CALL outbox.run();
SELECT emit('q', 'q3'), emit('r', 'r1');
CALL outbox.run();
SELECT emit('q', 'q4', 'q5');
CALL outbox.run();
SELECT outbox.resume('short');
SELECT count(*) FROM emitted WHERE source = 'aggregate:short';
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:short' ORDER BY data->>0;
SELECT * FROM open;
-- and a replay finds the same windows
SELECT outbox.seek('short', to_position => outbox.position_of(min(id)) ) FROM outbox.event WHERE key = 'q';
CALL outbox.run();
SELECT key, data, count(*) FROM emitted WHERE source = 'aggregate:short' GROUP BY 1, 2 ORDER BY data->>0;
SELECT outbox.unsubscribe('short');

-- a failing reducer: the event is tried again, its key waits, other keys go on
SELECT outbox.aggregate('fail', '{Said}', 'Heard', 'gather', max_events => 3);
SELECT outbox.alter_subscription('fail', backoff => '1 hour', max_attempts => 2);
INSERT INTO broken VALUES ('x2');
SELECT emit('x', 'x1', 'x2', 'x3'), emit('y', 'y1', 'y2', 'y3'), emit(NULL, 'm1');
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:fail';
SELECT key, state, events FROM outbox.aggregation ORDER BY key;
SELECT name, kind, state, lag > 0 AS lag, retrying, parked, dead, delivered, failed, last_error FROM stands;
SELECT state, attempts, error FROM outbox.delivery ORDER BY position;
-- its turn comes, and with it that of those behind it
DELETE FROM broken;
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
SELECT outbox.alter_subscription('fail', types => '{Said}');
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:fail';
SELECT name, retrying, parked, dead, delivered, failed FROM stands;
-- events without a key wait for one another, too
INSERT INTO broken VALUES ('m2');
SELECT emit(NULL, 'm2', 'm3');
CALL outbox.run();
SELECT name, retrying, parked, dead FROM stands;
-- given up, the next one goes on; redriven, it comes out of its order
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
SELECT outbox.alter_subscription('fail', types => '{Said}');
CALL outbox.run();
SELECT name, retrying, parked, dead FROM stands;
SELECT subscription, data, attempts, blocking, error FROM outbox.dead_letter;
SELECT key, state FROM outbox.aggregation ORDER BY key;
DELETE FROM broken;
SELECT outbox.redrive('fail');
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:fail' ORDER BY position DESC LIMIT 1;
-- or discarded
INSERT INTO broken VALUES ('z1');
SELECT outbox.alter_subscription('fail', max_attempts => 1);
SELECT emit('z', 'z1', 'z2');
CALL outbox.run();
SELECT outbox.discard('fail');
SELECT key, state FROM outbox.aggregation ORDER BY key;
-- a window of a key that waits for a retry waits, too
DELETE FROM broken;
SELECT outbox.unsubscribe('fail');
SELECT outbox.aggregate('fail', '{Said}', 'Waited', 'gather', quiet => '1 microsecond');
SELECT outbox.alter_subscription('fail', backoff => '1 hour');
INSERT INTO broken VALUES ('v2');
SELECT emit('v', 'v1', 'v2', 'v3'), emit('w', 'w1');
CALL outbox.run();
SELECT key, data FROM emitted WHERE type = 'Waited';
SELECT key, state, due < clock_timestamp() AS due FROM outbox.aggregation ORDER BY key;
DELETE FROM broken;
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
SELECT outbox.alter_subscription('fail', types => '{Said}');
CALL outbox.run();
SELECT key, data FROM emitted WHERE type = 'Waited';
SELECT outbox.unsubscribe('fail');

-- a failing condition is the event's, as is what makes the event unfit
SELECT outbox.aggregate('until', '{Counted}', 'Total', 'counted', until => $$ 10 / (5 - state::int) > 9 $$);
SELECT outbox.alter_subscription('until', max_attempts => 1);
SELECT count(outbox.publish('Counted')) FROM generate_series(1, 6) n;
CALL outbox.run();
SELECT key, data FROM emitted WHERE source = 'aggregate:until';
SELECT state, events FROM outbox.aggregation;
SELECT error FROM outbox.dead_letter;
SELECT outbox.discard('until');
SELECT outbox.alter_subscription('until', timeout => '20 milliseconds');
CREATE OR REPLACE FUNCTION counted(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep(60); RETURN state; END $$;
SELECT count(outbox.publish('Counted')) FROM generate_series(1, 1) n;
CALL outbox.run();
SELECT error FROM outbox.dead_letter;
SELECT outbox.unsubscribe('until');

-- seek resets the states
SELECT outbox.aggregate('seek', '{Said}', 'Heard', 'gather', max_events => 100);
SELECT emit('s', 's1', 's2'), emit('u', 'u1');
CALL outbox.run();
SELECT key, state FROM outbox.aggregation ORDER BY key;
SELECT outbox.seek('seek', to_position => outbox.position_of(max(id))) FROM outbox.event WHERE key = 's';
SELECT key, state FROM outbox.aggregation ORDER BY key;
CALL outbox.run();
SELECT key, state FROM outbox.aggregation ORDER BY key;
-- a pause keeps them, and nothing is folded
SELECT outbox.pause('seek');
SELECT emit('s', 's3');
CALL outbox.run();
SELECT key, state FROM outbox.aggregation ORDER BY key;
SELECT state FROM outbox.status;
SELECT outbox.resume('seek');
CALL outbox.run();
SELECT key, state FROM outbox.aggregation ORDER BY key;
-- another reducer goes on with them
CREATE FUNCTION backwards(jsonb, outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_array($2.data->'what') || $1 $$;
SELECT outbox.alter_subscription('seek', handler => 'backwards');
SELECT emit('s', 's4');
CALL outbox.run();
SELECT key, state FROM outbox.aggregation ORDER BY key;
-- one that is gone makes it broken
DROP FUNCTION backwards;
SELECT emit('s', 's5');
CALL outbox.run();
SELECT state, last_error FROM outbox.status;
CREATE FUNCTION backwards(jsonb, outbox.event) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT $1 $$;
SELECT state, last_error FROM outbox.status;
SELECT outbox.alter_subscription('seek', handler => 'gather');
CALL outbox.run();
SELECT key, state FROM outbox.aggregation ORDER BY key;
SELECT outbox.unsubscribe('seek');

-- what cannot be emitted by an event makes it fail; by time, the window stays,
-- says why, and is tried again
SELECT outbox.register_type('Checked', $$ jsonb_array_length(data) < 3 $$);
SELECT outbox.aggregate('checked', '{Said}', 'Checked', 'gather', quiet => '1 microsecond', until => $$ state->>-1 = '!' $$);
SELECT outbox.alter_subscription('checked', backoff => '1 hour', max_attempts => 1);
SELECT emit('c', 'c1', 'c2', 'c3'), emit('d', 'd1'), emit('e', 'e1', 'e2', '!', 'e3');
CALL outbox.run();
SELECT key, data FROM emitted WHERE type = 'Checked';
SELECT key, state, due > clock_timestamp() + interval '50 minutes' AS put_off FROM outbox.aggregation ORDER BY key;
SELECT state, retrying, dead, last_error FROM outbox.status;
SELECT data, error FROM outbox.dead_letter;
-- the next event of the key comes after it anyway
SELECT emit('c', 'c4');
SELECT outbox.register_type('Checked');
CALL outbox.run();
SELECT key, data FROM emitted WHERE type = 'Checked';
SELECT count(*) FROM outbox.aggregation;
SELECT outbox.unsubscribe('checked');
-- circles end as others do
SELECT outbox.aggregate('ping', '{Ping}', 'Pong', 'gather', max_events => 1);
SELECT outbox.aggregate('pong', '{Pong}', 'Ping', 'gather', max_events => 1);
SELECT outbox.publish('Ping') > 0;
CALL outbox.run();
SELECT subscription, error FROM outbox.dead_letter;
SELECT outbox.unsubscribe(name) FROM outbox.status;

-- states that are large, in a batch and from one to the next
CREATE FUNCTION pile(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS
$$ SELECT coalesce(state, '[]') || to_jsonb((SELECT string_agg(md5(event.id::text || i), '') FROM generate_series(1, 1000) i)) $$;
SELECT outbox.aggregate('large', '{Said}', 'Heap', 'pile', max_events => 3);
SELECT outbox.aggregate('large by time', '{Said}', 'Heap', 'pile', period => '1 microsecond');
SELECT outbox.alter_subscription('large', batch_size => 2);
SELECT emit('h', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6', 'h7');
CALL outbox.run();
SELECT source, count(*), min(jsonb_array_length(data)), max(length(data::text)) FROM emitted WHERE type = 'Heap' GROUP BY 1 ORDER BY 1;
SELECT name, key, events, length(state::text) FROM outbox.aggregation;
SELECT outbox.unsubscribe(name) FROM outbox.status;

-- superseded versions go, closed windows leave nothing
SELECT outbox.aggregate('clean', '{Said}', 'Heard', 'gather', max_events => 3);
SELECT emit('k', 'k1'), emit('l', 'l1'), emit(NULL, 'o1');
CALL outbox.run();
SELECT emit('k', 'k2'), emit('l', 'l2'), emit(NULL, 'o2');
CALL outbox.run();
SELECT emit('k', 'k3'), emit(NULL, 'o3');
CALL outbox.run();
SELECT name, key, state FROM outbox.aggregation;
CALL outbox.run();
SELECT key, open, events FROM outbox.aggregate_window;
SELECT outbox.unsubscribe('clean');
SELECT count(*) FROM outbox.aggregate_window;

DROP EXTENSION pg_outbox CASCADE;
DROP TABLE broken;
DROP FUNCTION emit;
