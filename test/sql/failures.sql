-- Handlers that fail, and handlers that do more than they should: what is
-- undone, what waits, what is tried again, and what leaks into what.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA fail;
SET search_path = fail;
SET application_name = 'failures';
SET client_min_messages = error;

CREATE TABLE effect (
    n integer GENERATED ALWAYS AS IDENTITY,
    subscription text DEFAULT outbox.current_subscription(),
    "position" bigint DEFAULT outbox.current_position(),
    attempt integer DEFAULT outbox.current_attempt(),
    key text,
    note text
);
CREATE FUNCTION noted() RETURNS TABLE (subscription text, "position" bigint, attempt integer, key text, note text)
LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM fail.effect RETURNING *)
    SELECT g.subscription, g."position", g.attempt, g.key, g.note FROM gone g ORDER BY n
$$;
CREATE VIEW state AS
    SELECT name, state, "position", lag, retrying, parked, dead, delivered, failed, last_error
    FROM outbox.status;
-- what is in the event says how its handler goes wrong
CREATE TABLE broken (key text, until_attempt integer);
CREATE FUNCTION handler(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fail.effect (key) VALUES (e.key);
    IF EXISTS (SELECT FROM fail.broken b WHERE b.key = e.key AND outbox.current_attempt() < b.until_attempt) THEN
        RAISE EXCEPTION 'key % is broken', e.key
            USING ERRCODE = 'P0001', DETAIL = 'detail of ' || (e.data ->> 'n'), HINT = 'hint';
    END IF;
END $$;

-- one failing event: its effects are undone, it is tried again, others go on
INSERT INTO broken VALUES ('a', 3);
SELECT outbox.subscribe('s', handler => 'handler', backoff => '0', max_attempts => 5);
SELECT outbox.publish_many('[{"type": "T", "key": "b", "data": {"n": 1}}, {"type": "T", "key": "a", "data": {"n": 2}},
    {"type": "T", "key": "c", "data": {"n": 3}}, {"type": "T", "key": "a", "data": {"n": 4}},
    {"type": "T", "data": {"n": 5}}, {"type": "T", "key": "a", "data": {"n": 6}}]');
CALL outbox.run();
-- in order for each key, each once
SELECT "position", attempt, key FROM noted();
SELECT * FROM state;
SELECT count(*) FROM outbox.dead_letter;

-- with a wait: parked behind its key meanwhile
UPDATE broken SET until_attempt = 2;
SELECT outbox.unsubscribe('s');
SELECT outbox.subscribe('s', handler => 'handler', backoff => '1 hour', max_attempts => 5);
SELECT outbox.publish_many('[{"type": "T", "key": "a", "data": {"n": 7}}, {"type": "T", "key": "b"},
    {"type": "T", "key": "a"}, {"type": "T", "key": "a"}, {"type": "T"}]');
CALL outbox.run();
SELECT "position" - outbox.head() AS "position", attempt, key FROM noted();
SELECT name, state, lag, retrying, parked, dead, delivered, failed, last_error FROM state;
SELECT state, open, attempts, sqlstate, error, error_detail, error_context ~ 'fail.handler\(outbox.event\)|handler\(outbox.event\)' AS context,
       failed_at IS NOT NULL AS failed_at,
       next_at BETWEEN now() + interval '29 min' AND now() + interval '1 hour' AS in_half_an_hour_to_one
FROM outbox.delivery ORDER BY "position";
-- a later event of that key is parked, too
SELECT outbox.publish('T', key => 'a') > 0 AS emitted;
CALL outbox.run();
SELECT count(*) FROM noted();
SELECT retrying, parked, lag FROM state;
SELECT outbox.wait('s', '0');
SELECT outbox.unsubscribe('s');
SELECT count(*) FROM outbox.delivery;

-- an attempt each, and then a dead letter; the key moves on
UPDATE broken SET until_attempt = 100;
SELECT outbox.subscribe('one', handler => 'handler', backoff => '0', max_attempts => 1);
SELECT outbox.subscribe('three', handler => 'handler', backoff => '0', max_attempts => 3);
SELECT outbox.publish('T', '{"n": 8}', key => 'a') > 0 AS emitted, outbox.publish('T', key => 'b') > 0 AS emitted;
CALL outbox.run();
SELECT subscription, attempt, key FROM noted() ORDER BY 1;
SELECT name, state, lag, retrying, parked, dead, delivered, failed, last_error FROM state ORDER BY name;
SELECT subscription, "position" = outbox.position_of(id) AS right_position, type, key, data, attempts, blocking,
       error, error_detail, failed_at IS NOT NULL AS failed_at
FROM outbox.dead_letter ORDER BY subscription;
SELECT outbox.wait(timeout => '0');
SELECT count(outbox.unsubscribe(name)) FROM outbox.status;
SELECT count(*) FROM outbox.dead_letter;
DELETE FROM broken;

-- a batch that fails is repeated event by event
CREATE FUNCTION batch(e outbox.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fail.effect (key, note)
    SELECT string_agg(coalesce(x.key, '-'), ',' ORDER BY x.id), count(*) FROM unnest(e) x;
    IF EXISTS (SELECT FROM unnest(e) x WHERE x.key = 'a') THEN
        RAISE EXCEPTION 'a in a batch of %', cardinality(e);
    END IF;
END $$;
SELECT outbox.subscribe('batch', handler => 'batch', backoff => '0', max_attempts => 2);
SELECT outbox.publish_many('[{"type": "T", "key": "b"}, {"type": "T", "key": "a"}, {"type": "T", "key": "c"},
    {"type": "T"}, {"type": "T", "key": "b"}]');
CALL outbox.run();
SELECT attempt, key, note FROM noted();
SELECT key, attempts, error FROM outbox.dead_letter;
SELECT outbox.unsubscribe('batch');

-- what a handler says with its SQLSTATE
CREATE FUNCTION say(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fail.effect (key) VALUES (e.key);
    RAISE EXCEPTION 'says %', e.key USING ERRCODE = e.key;
END $$;
SELECT outbox.subscribe('say', handler => 'say', backoff => '1 hour', max_attempts => 3);
SELECT outbox.publish('T', key => k) > 0 AS emitted FROM unnest('{OB001,OB002,P0002}'::text[]) k;
CALL outbox.run();
SELECT count(*) FROM noted();
SELECT state, attempts, sqlstate, error FROM outbox.delivery ORDER BY "position";
SELECT outbox.unsubscribe('say');

-- every event fails: each alone, whatever the batch
SELECT outbox.subscribe('all', handler => 'say', backoff => '0', max_attempts => 2);
SELECT outbox.publish_many((SELECT jsonb_agg('{"type": "T", "key": "P0001"}'::jsonb) FROM generate_series(1, 50)));
CALL outbox.run();
SELECT name, lag, retrying, parked, dead, delivered, failed, last_error FROM state;
SELECT attempts, count(*) FROM outbox.dead_letter GROUP BY attempts;
SELECT outbox.unsubscribe('all');

-- a deferred constraint has the event that violated it
CREATE TABLE deferred (key text, CONSTRAINT unique_later UNIQUE (key) DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION defer(e outbox.event) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO fail.deferred VALUES (e.key) $$;
SELECT outbox.subscribe('defer', handler => 'defer', max_attempts => 1);
SELECT outbox.publish_many('[{"type": "T", "key": "x"}, {"type": "T", "key": "y"}, {"type": "T", "key": "x"}, {"type": "T", "key": "z"}]');
CALL outbox.run();
SELECT * FROM deferred ORDER BY key;
SELECT key, attempts, error FROM outbox.dead_letter;
SELECT delivered, failed FROM state;
SELECT outbox.unsubscribe('defer');
-- also when the handler puts it off again
CREATE OR REPLACE FUNCTION defer(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    SET CONSTRAINTS ALL DEFERRED;
    INSERT INTO fail.deferred VALUES (e.key);
END $$;
SELECT outbox.subscribe('defer', handler => 'defer', max_attempts => 1);
SELECT outbox.publish_many('[{"type": "T", "key": "x"}, {"type": "T", "key": "w"}]');
CALL outbox.run();
SELECT key, error FROM outbox.dead_letter;
SELECT * FROM deferred ORDER BY key;
SELECT outbox.unsubscribe('defer');

-- time limits: a handler that sleeps, one that spins, and one within its time
CREATE FUNCTION dawdle(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fail.effect (key) VALUES (e.key);
    IF e.key = 'sleep' THEN
        PERFORM pg_sleep(60);
    ELSIF e.key = 'spin' THEN
        LOOP END LOOP;
    ELSIF e.key = 'catch' THEN
        BEGIN
            PERFORM pg_sleep(60);
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO fail.effect (key) VALUES ('not to be caught');
        END;
    ELSE
        PERFORM pg_sleep(0.01);
    END IF;
END $$;
SELECT outbox.subscribe('dawdle', handler => 'dawdle', timeout => '0.5 s', max_attempts => 1);
SELECT outbox.publish('T', key => k) > 0 AS emitted
FROM unnest('{quick,sleep,quick,spin,catch,quick,quick,quick,quick,quick,quick,quick,quick,quick,quick,quick,quick,quick}'::text[]) k;
CALL outbox.run();
SELECT key, count(*) FROM noted() GROUP BY key ORDER BY key;
SELECT key, error FROM outbox.dead_letter ORDER BY "position";
SELECT outbox.unsubscribe('dawdle');
SELECT pg_sleep(0.6);
SHOW statement_timeout;

-- settings, search_path and roles that a handler changes are gone after it
CREATE FUNCTION meddle(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fail.effect (key, note) VALUES (e.key, concat_ws(' ', current_setting('search_path'),
        current_setting('work_mem'), current_setting('datestyle'), current_setting('outbox.correlation_id')));
    PERFORM set_config('search_path', 'pg_catalog', false);
    PERFORM set_config('work_mem', '64kB', false);
    PERFORM set_config('datestyle', 'German', true);
    SET outbox.correlation_id = 'meddled';
    PERFORM outbox.publish('Emitted', key => e.key);
    IF e.key = '2' THEN
        RAISE 'meddled';
    END IF;
END $$;
SET work_mem = '5MB';
SET datestyle = 'ISO, YMD';
SET outbox.correlation_id = 'session';
SELECT outbox.subscribe('meddle', '{T}', handler => 'meddle', max_attempts => 1);
SELECT outbox.publish('T', key => i::text) > 0 AS emitted FROM generate_series(1, 3) i;
CALL outbox.run();
SELECT key, note FROM noted();
SELECT current_setting('search_path'), current_setting('work_mem'), current_setting('datestyle'),
       current_setting('outbox.correlation_id');
RESET outbox.correlation_id;
SELECT key, correlation_id, causation_id = (SELECT id FROM outbox.read(types => '{T}') t WHERE t.key = r.key AND correlation_id = 'session') AS caused
FROM outbox.read(types => '{Emitted}') r;
SELECT outbox.unsubscribe('meddle');

-- what an event that is emitted by a handler inherits
CREATE FUNCTION chain(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    id bigint;
BEGIN
    INSERT INTO fail.effect (key, note) VALUES (e.key, concat_ws(' ', current_setting('outbox.correlation_id'),
        current_setting('outbox.traceparent'), current_setting('outbox.headers')));
    IF (e.data ->> 'left')::integer > 0 THEN
        id := outbox.publish('Chain', jsonb_build_object('left', (e.data ->> 'left')::integer - 1), e.key,
                             headers => jsonb_build_object('step', e.data ->> 'left'));
    END IF;
END $$;
SELECT outbox.subscribe('chain', '{Chain}', 'chain');
BEGIN;
SET LOCAL outbox.correlation_id = 'business';
SET LOCAL outbox.headers = '{"tenant": "acme"}';
SET LOCAL outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SELECT outbox.publish('Chain', '{"left": 3}', 'k', headers => '{"old_key": "not inherited", "partition": "nor this", "causes": []}') > 0 AS emitted;
COMMIT;
CALL outbox.run();
SELECT note FROM noted();
SELECT data, key, headers, correlation_id,
       causation_id = lag(id) OVER (ORDER BY "position") AS caused_by_the_one_before
FROM outbox.read(types => '{Chain}') ORDER BY "position";
-- with no correlation anywhere, the first one's id is the chain's
SELECT outbox.publish('Chain', '{"left": 1}', 'l') AS id \gset
CALL outbox.run();
SELECT correlation_id = :'id' AS same, causation_id = :id AS caused FROM outbox.read(types => '{Chain}') WHERE key = 'l' ORDER BY "position";
SELECT outbox.unsubscribe('chain');
TRUNCATE effect;

-- a batch handler hands nothing down
CREATE FUNCTION batch_emits(e outbox.event[]) RETURNS void LANGUAGE sql AS
    $$ SELECT outbox.publish('FromBatch') $$;
SELECT outbox.subscribe('batch', '{T}', 'batch_emits');
SELECT outbox.publish('T', headers => '{"h": 1}') > 0 AS emitted;
CALL outbox.run();
SELECT headers, causation_id, correlation_id = id::text AS own FROM outbox.read(types => '{FromBatch}');
SELECT outbox.unsubscribe('batch');

-- a handler's captured changes carry their cause
CREATE TABLE stock (item text PRIMARY KEY, amount integer);
SELECT outbox.capture('stock');
CREATE FUNCTION take(e outbox.event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO fail.stock VALUES (e.key, 1) ON CONFLICT (item) DO UPDATE SET amount = stock.amount + 1 $$;
SELECT outbox.subscribe('take', '{Take}', 'take');
SELECT outbox.publish('Take', key => 'pear') AS id \gset
CALL outbox.run();
SELECT type, key, data, causation_id = :id AS caused FROM outbox.read(types => '{stock.*}');
SELECT outbox.unsubscribe('take');

-- a handler that catches its own error goes on; its subtransaction's events go
CREATE FUNCTION catches(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM outbox.publish('Caught', key => e.key);
        INSERT INTO fail.effect (key) VALUES ('caught');
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        INSERT INTO fail.effect (key) VALUES (e.key);
    END;
END $$;
SELECT outbox.subscribe('catches', '{T}', 'catches');
SELECT outbox.publish('T', key => i::text) > 0 AS emitted FROM generate_series(1, 3) i;
CALL outbox.run();
SELECT key, attempt FROM noted();
SELECT count(*) FROM outbox.event WHERE type = 'Caught';
SELECT outbox.unsubscribe('catches');

-- temporary tables, cursors, prepared statements, advisory locks
CREATE FUNCTION temps(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE IF NOT EXISTS scratch (n integer) ON COMMIT DROP;
    INSERT INTO scratch VALUES (1);
    INSERT INTO fail.effect (key, note) VALUES (e.key, (SELECT count(*) FROM scratch));
    PERFORM pg_advisory_xact_lock(1);
    EXECUTE 'DECLARE c CURSOR FOR SELECT 1';
    EXECUTE 'CLOSE c';
END $$;
SELECT outbox.subscribe('temps', '{T}', 'temps');
SELECT outbox.publish('T', key => i::text) > 0 AS emitted FROM generate_series(1, 2) i;
CALL outbox.run();
SELECT key, note FROM noted();
SELECT outbox.unsubscribe('temps');

-- what a handler must not do is its event's failure
CREATE FUNCTION forbidden(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CASE e.key
        WHEN 'commit' THEN COMMIT;
        WHEN 'rollback' THEN ROLLBACK;
        WHEN 'wait' THEN PERFORM outbox.wait();
        WHEN 'run' THEN CALL outbox.run();
        WHEN 'change' THEN DELETE FROM outbox.event;
        WHEN 'prepare' THEN EXECUTE 'PREPARE TRANSACTION ''x''';
        WHEN 'begin' THEN EXECUTE 'BEGIN';
        WHEN 'isolation' THEN SET TRANSACTION ISOLATION LEVEL SERIALIZABLE;
        ELSE NULL;
    END CASE;
END $$;
SELECT outbox.subscribe('forbidden', '{T}', 'forbidden', max_attempts => 1);
SELECT outbox.publish('T', key => k) > 0 AS emitted
FROM unnest('{commit,rollback,wait,run,change,prepare,begin,isolation,none}'::text[]) k;
CALL outbox.run();
SELECT key, error FROM outbox.dead_letter ORDER BY "position";
SELECT delivered, failed FROM state;
SELECT outbox.unsubscribe('forbidden');

-- a handler that removes, pauses, or adds subscriptions
CREATE FUNCTION rearrange(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fail.effect (key) VALUES (e.key);
    IF e.key = 'pause' THEN
        PERFORM outbox.pause(outbox.current_subscription());
    ELSIF e.key = 'subscribe' THEN
        PERFORM outbox.subscribe('by handler', '{T}', 'fail.rearrange');
    ELSIF e.key = 'unsubscribe' THEN
        PERFORM outbox.unsubscribe(outbox.current_subscription());
    END IF;
END $$;
SELECT outbox.subscribe('rearrange', '{T}', 'rearrange', batch_size => 1);
SELECT outbox.publish('T', key => k) > 0 AS emitted FROM unnest('{subscribe,other,pause,more,unsubscribe}'::text[]) k;
CALL outbox.run();
SELECT subscription, key FROM noted() ORDER BY 1, "position";
SELECT name, state, lag FROM state ORDER BY name;
SELECT outbox.resume('rearrange');
CALL outbox.run();
-- its own unsubscribing holds, and so does what it did
SELECT subscription, key FROM noted() ORDER BY "position";
SELECT name, lag FROM state;
SELECT outbox.unsubscribe(name) FROM outbox.status;
TRUNCATE effect;

-- handlers that go away, come back changed, or may not be called any more
CREATE FUNCTION fleeting(e jsonb) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO fail.effect (key) VALUES (e ->> 'key') $$;
SELECT outbox.subscribe('fleeting', '{T}', 'fleeting');
DROP FUNCTION fleeting(jsonb);
SELECT outbox.publish('T', key => '1') > 0 AS emitted;
CALL outbox.run();
SELECT state, lag, dead, failed, last_error FROM state;
CREATE PROCEDURE fleeting(e jsonb) LANGUAGE sql AS 'SELECT';
CALL outbox.run();
SELECT state, lag, last_error FROM state;
DROP PROCEDURE fleeting;
CREATE FUNCTION fleeting(e jsonb) RETURNS SETOF integer LANGUAGE sql AS 'SELECT 1';
CALL outbox.run();
SELECT state, lag, last_error FROM state;
DROP FUNCTION fleeting;
CREATE FUNCTION fleeting(e jsonb) RETURNS text LANGUAGE sql AS
    $$ INSERT INTO fail.effect (key, note) VALUES (e ->> 'key', 'changed') RETURNING note $$;
CALL outbox.run();
SELECT key, attempt, note FROM noted();
SELECT state, lag, failed FROM state;
SELECT outbox.unsubscribe('fleeting');

DROP SCHEMA fail CASCADE;
DROP EXTENSION pg_outbox;
