-- Subscriptions: what can be asked for, what is refused, what is delivered to
-- whom, and what becomes of events that fail.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA sub;
SET search_path = sub;
SET application_name = 'subscribe';

CREATE TABLE effect (
    n integer GENERATED ALWAYS AS IDENTITY,
    handler text,
    type text,
    key text,
    "position" bigint,
    attempt integer,
    subscription text,
    replay boolean
);
CREATE FUNCTION note(handler text, type text, key text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO sub.effect (handler, type, key, "position", attempt, subscription, replay)
    VALUES ($1, $2, $3, outbox.current_position(), outbox.current_attempt(),
            outbox.current_subscription(), outbox.is_replay())
$$;
-- what was noted since the last time
CREATE FUNCTION noted() RETURNS TABLE (handler text, type text, key text, "position" bigint,
                                       attempt integer, subscription text)
LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM sub.effect RETURNING *)
    SELECT g.handler, g.type, g.key, g."position", g.attempt, g.subscription FROM gone g ORDER BY n
$$;
CREATE FUNCTION refusal(command text) RETURNS TABLE (state text, message text, detail text, hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    state := 'none';
    RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT;
END
$$;

-- the three signatures
CREATE FUNCTION on_event(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM note('event', e.type, e.key); END $$;
CREATE FUNCTION on_batch(e outbox.event[]) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN PERFORM note('batch of ' || cardinality(e), e[1].type, e[cardinality(e)].key); RETURN 1; END $$;
CREATE FUNCTION on_json(e jsonb) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM note('json' || CASE WHEN (e ->> 'position')::bigint = outbox.current_position() THEN '' ELSE '!' END,
                 e ->> 'type', e ->> 'key');
    RETURN 'ignored';
END $$;
SELECT outbox.subscribe('event', handler => 'on_event');
SELECT outbox.subscribe('batch', handler => 'sub.on_batch');
SELECT outbox.subscribe('json', handler => 'on_json(jsonb)');
SELECT outbox.publish('A', key => 'k' || i) FROM generate_series(1, 3) i;
CALL outbox.run();
SELECT * FROM noted() ORDER BY subscription, "position";
SELECT name, kind, state, "position", head, lag, retrying, parked, dead, delivered, failed,
       last_error, oldest_pending, latency_p50 >= '0' AS p50, latency_p99 >= latency_p50 AS p99
FROM outbox.status ORDER BY name;
SELECT owner = current_user AS mine, count(*) FROM outbox.status GROUP BY 1;

-- the event as (jsonb) says all that the row says
CREATE TABLE seen (e jsonb);
CREATE FUNCTION keep(e jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO sub.seen VALUES (e)';
SELECT outbox.subscribe('keep', handler => 'keep');
SELECT outbox.publish('Kept', '{"a": [1]}', 'k', headers => '{"h": null}') > 0 AS emitted;
CALL outbox.run();
SELECT (SELECT jsonb_object_agg(k, v) FROM jsonb_each(e) AS j (k, v) WHERE k NOT IN ('time', 'xid'))
       = (SELECT to_jsonb(r) - 'time' - 'xid' FROM outbox.read() r WHERE type = 'Kept') AS same,
       (e ->> 'time')::timestamptz = (SELECT "time" FROM outbox.read() WHERE type = 'Kept') AS same_time,
       e ->> 'xid' = (SELECT xid::text FROM outbox.read() WHERE type = 'Kept') AS same_xid,
       (SELECT array_agg(k ORDER BY k COLLATE "C") FROM jsonb_object_keys(e) k) AS members
FROM seen;
SELECT count(outbox.unsubscribe(name)) AS removed FROM outbox.status;
SELECT count(*) AS subscriptions FROM outbox.status;
SELECT (SELECT count(*) FROM outbox.progress) AS progress, (SELECT count(*) FROM outbox.delivery) AS delivery;
TRUNCATE effect RESTART IDENTITY;

-- outside of a handler there is nothing to ask for
SELECT outbox.current_position(), outbox.current_attempt(), outbox.current_subscription(), outbox.is_replay();

-- names: overloads, quotes, the search_path that is stored
CREATE FUNCTION twice(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT note('twice(event)', e.type, e.key) $$;
CREATE FUNCTION twice(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT note('twice(jsonb)', e ->> 'type', e ->> 'key') $$;
CREATE FUNCTION twice(e integer) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'twice') $$) \gx
SELECT outbox.subscribe('jsonb', handler => 'twice(jsonb)');
SELECT outbox.subscribe('event', handler => 'twice ( outbox.event )');
CREATE SCHEMA "Sch ema";
CREATE FUNCTION "Sch ema"."Hand.ler ""x"""(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT note('quoted', e ->> 'type', e ->> 'key') $$;
SELECT outbox.subscribe('a "name" with spaces, Ümläute', handler => '"Sch ema"."Hand.ler ""x"""');
SET search_path = "Sch ema", sub;
SELECT outbox.subscribe('path', handler => '"Hand.ler ""x"""(jsonb)');
SET search_path = sub;
CREATE FUNCTION show_path(e jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN PERFORM sub.note(current_setting('search_path'), e ->> 'type', NULL); END $$;
SET search_path = pg_catalog, "Sch ema", sub;
SELECT outbox.subscribe('stored path', handler => 'show_path');
SET search_path = sub;
SELECT outbox.publish('Named', key => 'k') > 0 AS emitted;
CALL outbox.run();
SELECT handler, type, key, attempt, subscription FROM noted() ORDER BY subscription COLLATE "C";
SHOW search_path;
SELECT count(outbox.unsubscribe(name)) AS removed FROM outbox.status;

-- what is refused
SELECT * FROM refusal($$ SELECT outbox.subscribe(NULL, handler => 'on_event') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('', handler => 'on_event') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe(repeat('x', 201), handler => 'on_event') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', channel => 'c') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'no_such_function') $$) \gx
-- functions that may have been meant are named
BEGIN;
CREATE FUNCTION "onOrder"(event jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION onorder(id integer) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'onOrder') $$) \gx
ROLLBACK;
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'no_schema.no_such_function') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'twice(integer)') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'twice(bigint)') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'twice(') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => '') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'a.b.c.d') $$) \gx
CREATE PROCEDURE a_procedure(e jsonb) LANGUAGE sql AS 'SELECT';
CREATE FUNCTION a_set(e jsonb) RETURNS SETOF integer LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION pg_temp.a_temp(e jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
-- before 14 it is found, and no function
SELECT state IN ('42883', '42809') AS refused FROM refusal($$ SELECT outbox.subscribe('x', handler => 'a_procedure') $$);
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'a_set') $$) \gx
SELECT message ~ 'handler "pg_temp.a_temp" is temporary' AS refused, state, detail, hint
FROM refusal($$ SELECT outbox.subscribe('x', handler => 'pg_temp.a_temp') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', channel => '') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', channel => repeat('c', 64)) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', '{}', 'on_event') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', '{a,NULL}', 'on_event') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', '{""}', 'on_event') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', start => 'yesterdayish') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', start => '0') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', start => '1000') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', start => '99999999999999999999') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', ordering => 'fifo') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', ordering => 'strict', concurrency => 2) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', concurrency => 0) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', concurrency => 100000) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', batch_size => 0) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', max_attempts => 0) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', backoff => '-1 s') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', max_backoff => '2000 years') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', timeout => '-1 day') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', on_exhausted => 'forget') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', handler => 'on_event', payload => 'all') $$) \gx
SELECT outbox.subscribe('x', handler => 'on_event');
SELECT * FROM refusal($$ SELECT outbox.subscribe('x', channel => 'c') $$) \gx
SELECT outbox.unsubscribe('x');
SELECT * FROM refusal($$ SELECT outbox.unsubscribe('x') $$) \gx
-- NULL means the default, as wrappers pass it
SELECT outbox.subscribe('nulls', NULL, 'on_event', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
       outbox.subscribe('plain', handler => 'on_event');
SELECT count(DISTINCT to_jsonb(s) - 'id' - 'name' - 'created_at' - 'start_snapshot') AS kinds
FROM outbox.subscription s WHERE name IN ('nulls', 'plain');
SELECT outbox.unsubscribe('nulls'), outbox.unsubscribe('plain'), outbox.wait(timeout => NULL) IS NOT NULL AS waited;
SELECT * FROM refusal($$ SELECT outbox.unsubscribe(NULL) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.pause('x') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.pause(NULL) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.resume('x') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.resume(NULL) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.wait('x') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.wait(timeout => '-1 s') $$) \gx
SELECT count(*) AS subscriptions FROM outbox.status;

-- nothing is changed by a read-only transaction
SELECT outbox.subscribe('x', handler => 'on_event');
BEGIN READ ONLY;
SELECT outbox.pause('x');
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.resume('x');
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.unsubscribe('x');
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.subscribe('y', handler => 'on_event');
ROLLBACK;
SET default_transaction_read_only = on;
CALL outbox.run();
RESET default_transaction_read_only;

-- a subscription that is rolled back never was; one transaction can do it all
SELECT outbox.unsubscribe('x');
BEGIN;
SELECT outbox.subscribe('x', handler => 'on_event');
ROLLBACK;
SELECT count(*) AS subscriptions FROM outbox.status;
BEGIN;
SELECT outbox.subscribe('x', handler => 'on_event');
SELECT outbox.pause('x');
SELECT outbox.resume('x');
SELECT outbox.unsubscribe('x');
SELECT outbox.subscribe('x', handler => 'on_event');
COMMIT;
SELECT name, state FROM outbox.status;

-- which types
SELECT outbox.unsubscribe('x');
SELECT outbox.subscribe('all', '{*}', 'on_json');
SELECT outbox.subscribe('exact', '{order.placed}', 'on_json');
SELECT outbox.subscribe('prefix', '{order.*}', 'on_json');
SELECT outbox.subscribe('suffix', '{*.placed}', 'on_json');
SELECT outbox.subscribe('middle', '{o*p*d}', 'on_json');
SELECT outbox.subscribe('several', '{customer.*,order.paid,nothing}', 'on_json');
SELECT outbox.subscribe('stars', '{**r**.**}', 'on_json');
SELECT outbox.subscribe('case', '{Order.*}', 'on_json');
SELECT outbox.subscribe('not a regexp', '{o.der_p%?[a-z]+}', 'on_json');
SELECT outbox.publish(t) > 0 AS emitted
FROM unnest('{order.placed,order.paid,customer.placed,order,Order.x,o.der_p%?[a-z]+}'::text[]) t;
CALL outbox.run();
SELECT subscription, array_agg(type ORDER BY "position") AS types
FROM noted() GROUP BY subscription ORDER BY subscription COLLATE "C";
SELECT count(outbox.unsubscribe(name)) AS removed FROM outbox.status;

-- where to start
SELECT outbox.head() AS head \gset
SELECT outbox.publish('S', key => '1') > 0 AS emitted;
CALL outbox.run();
SELECT clock_timestamp() AS time1 \gset
SELECT outbox.publish('S', key => '2') > 0 AS emitted;
CALL outbox.run();
SELECT clock_timestamp() AS time2 \gset
SELECT outbox.publish('S', key => '3') > 0 AS emitted;
SELECT outbox.subscribe('now', '{S}', 'on_json');
SELECT outbox.subscribe('beginning', '{S}', 'on_json', start => 'beginning');
SELECT outbox.subscribe('position', '{S}', 'on_json', start => (:head + 2)::text);
SELECT outbox.subscribe('next', '{S}', 'on_json', start => (:head + 3)::text);
SELECT outbox.subscribe('time 1', '{S}', 'on_json', start => :'time1');
SELECT outbox.subscribe('time 2', '{S}', 'on_json', start => :'time2');
SELECT outbox.subscribe('long ago', '{S}', 'on_json', start => '-infinity');
SELECT outbox.subscribe('in a while', '{S}', 'on_json', start => 'infinity');
SELECT outbox.publish('S', key => '4') > 0 AS emitted;
-- the events of the transaction that subscribes are the subscription's
BEGIN;
SELECT outbox.publish('S', key => '5') > 0 AS emitted;
SELECT outbox.subscribe('own', '{S}', 'on_json');
SELECT outbox.publish('S', key => '6') > 0 AS emitted;
COMMIT;
CALL outbox.run();
SELECT subscription, array_agg(key ORDER BY "position") AS keys, bool_and(attempt = 1) AS first_attempt
FROM noted() GROUP BY subscription ORDER BY subscription COLLATE "C";
SELECT count(outbox.unsubscribe(name)) AS removed FROM outbox.status;

-- pause and resume
SELECT outbox.subscribe('p', handler => 'on_json');
SELECT outbox.pause('p');
SELECT outbox.pause('p');
SELECT outbox.publish('P') > 0 AS emitted;
CALL outbox.run();
SELECT count(*) FROM noted();
SELECT state, lag FROM outbox.status;
SELECT outbox.wait(timeout => '0'), outbox.wait('p', '0');
SELECT outbox.resume('p');
SELECT outbox.resume('p');
SELECT outbox.wait(timeout => '0'), outbox.wait('p', '0');
CALL outbox.run();
SELECT type, subscription FROM noted();
SELECT state, lag, delivered FROM outbox.status;
SELECT outbox.wait(timeout => '0'), outbox.wait('p', '0');
SELECT outbox.unsubscribe('p');

-- about so many events
SELECT outbox.subscribe('some', handler => 'on_json', batch_size => 3);
SELECT outbox.publish('N', key => i::text) IS NULL AS failed FROM generate_series(1, 10) i;
CALL outbox.run(4);
SELECT count(*) BETWEEN 4 AND 6 AS about_four FROM noted();
CALL outbox.run(max_events => 100);
SELECT delivered FROM outbox.status;
CALL outbox.run(0);
CALL outbox.run(-1);
SELECT outbox.unsubscribe('some');
TRUNCATE effect;

SET client_min_messages = warning;
DROP SCHEMA "Sch ema" CASCADE;
DROP SCHEMA sub CASCADE;
DROP EXTENSION pg_outbox;
