-- What handlers hand down, and how long a chain of causes may get.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA cause;
SET search_path = cause;

CREATE FUNCTION looping(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT outbox.publish('Loop', key => e.key) $$;
CREATE VIEW chain AS
    SELECT r.key, count(*) AS events, count(r.causation_id) AS caused, count(DISTINCT r.correlation_id) AS correlations
    FROM outbox.event r WHERE r.type = 'Loop' GROUP BY r.key ORDER BY r.key;

-- ---- a handler that feeds itself ----

SELECT outbox.subscribe('loop', '{Loop}', handler => 'looping');
SELECT outbox.publish('Loop', key => 'default') > 0 AS emitted;
CALL outbox.run();
-- 64 causes may stand above an event; the handler that would make one more fails, once
SELECT * FROM chain;
SELECT subscription, type, key, attempts, blocking, regexp_replace(error_detail, 'event \d+', 'event N') AS error_detail, error
FROM outbox.dead_letter;
SELECT d."position" = outbox.head() AS the_last_one, d.sqlstate FROM outbox.delivery d;

SET outbox.max_depth = 2;
SELECT outbox.publish('Loop', key => 'two') > 0 AS emitted;
CALL outbox.run();
SET outbox.max_depth = 0;
SELECT outbox.publish('Loop', key => 'none') > 0 AS emitted;
CALL outbox.run();
SELECT * FROM chain;
-- redriven where more is allowed, it goes on; what is too deep is found in the log, too
SET outbox.max_depth = 4;
SELECT outbox.redrive('loop', "position") FROM outbox.dead_letter WHERE key IN ('two', 'none') ORDER BY key;
CALL outbox.run();
SELECT * FROM chain;
\c -
SET search_path = cause;
SET outbox.max_depth = 5;
SELECT outbox.redrive('loop', "position") FROM outbox.dead_letter WHERE key = 'two';
CALL outbox.run();
SELECT * FROM chain WHERE key = 'two';
SELECT key, error FROM outbox.dead_letter ORDER BY key;
-- causes that are not kept any more, as if retention had dropped them, count no more
\c -
SET search_path = cause;
BEGIN;
ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
ALTER TABLE outbox.event_default DISABLE TRIGGER USER;
DELETE FROM outbox.event_default e WHERE key = 'two' AND id < (SELECT max(id) FROM outbox.event x WHERE x.key = 'two');
ALTER TABLE outbox.event_default ENABLE ALWAYS TRIGGER refuse_change;
ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;
COMMIT;
SET outbox.max_depth = 3;
SELECT outbox.redrive('loop', "position") FROM outbox.dead_letter WHERE key = 'two';
CALL outbox.run();
SELECT count(*) FROM outbox.event WHERE key = 'two';
SELECT key, error FROM outbox.dead_letter WHERE key = 'two';
SELECT outbox.discard('loop');
\c -
\set VERBOSITY terse
DROP SCHEMA cause CASCADE;
DROP EXTENSION pg_outbox;
CREATE EXTENSION pg_outbox;
CREATE SCHEMA cause;
SET search_path = cause;
CREATE VIEW chain AS
    SELECT r.key, count(*) AS events, count(r.causation_id) AS caused, count(DISTINCT r.correlation_id) AS correlations
    FROM outbox.event r WHERE r.type = 'Loop' GROUP BY r.key ORDER BY r.key;

-- the handler may catch it: then nothing was emitted, and all is well
CREATE FUNCTION careful(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox.publish('Loop', key => e.key);
EXCEPTION WHEN SQLSTATE 'OB003' THEN
    NULL;
END $$;
SELECT outbox.subscribe('careful', '{Loop}', handler => 'careful');
SELECT outbox.publish('Loop', key => 'careful') > 0 AS emitted;
CALL outbox.run();
SELECT * FROM chain WHERE key = 'careful';
SELECT dead, retrying, failed FROM outbox.status;
SELECT outbox.unsubscribe('careful');

-- captured changes count like published events
CREATE TABLE counter (id integer PRIMARY KEY, n integer);
SELECT outbox.capture('counter');
CREATE FUNCTION count_on(e outbox.event) RETURNS void LANGUAGE sql AS $$
    UPDATE cause.counter SET n = n + 1 WHERE id = e.key::integer $$;
SELECT outbox.subscribe('counter', '{counter.*}', handler => 'count_on');
SET outbox.max_depth = 5;
INSERT INTO counter VALUES (1, 0);
CALL outbox.run();
SELECT * FROM counter;
SELECT type, count(*) FROM outbox.read(types => '{counter.*}') GROUP BY type ORDER BY type;
SELECT attempts, error FROM outbox.dead_letter;
SELECT outbox.unsubscribe('counter');

-- a batch hands no cause down, so there is no chain
CREATE FUNCTION batch(e outbox.event[]) RETURNS void LANGUAGE sql AS $$
    SELECT outbox.publish('Batch', key => e[1].key) $$;
SET outbox.max_depth = 0;
SELECT outbox.subscribe('batch', '{Batch}', handler => 'batch');
SELECT outbox.publish('Batch') > 0 AS emitted;
CALL outbox.run(10);
SELECT count(*) > 5 AS goes_on, count(causation_id) AS caused FROM outbox.read(types => '{Batch}');
SELECT outbox.unsubscribe('batch');
RESET outbox.max_depth;

-- ---- everything that a handler causes inherits, and nothing stays behind ----

CREATE TABLE account (id integer PRIMARY KEY, amount integer);
CREATE TABLE entry (id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY, account integer, amount integer);
SELECT outbox.capture('entry', operations => '{insert}', type => 'Entered', columns => '{account,amount}');
-- by a trigger, in a nested function, by dynamic SQL
CREATE FUNCTION nested(id integer, amount integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('INSERT INTO cause.entry (account, amount) VALUES (%s, %s)', id, amount);
END $$;
CREATE FUNCTION on_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM cause.nested(NEW.id, NEW.amount);
    RETURN NULL;
END $$;
CREATE TRIGGER at_once AFTER INSERT OR UPDATE ON account FOR EACH ROW EXECUTE FUNCTION on_account();
-- and by one that is deferred
CREATE FUNCTION on_account_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox.publish('Late', key => NEW.id::text);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON account DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION on_account_late();

CREATE FUNCTION book(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- a setting of the handler's own ends with the call
    IF e.key = '2' THEN
        PERFORM set_config('outbox.correlation_id', 'of the handler', false);
    END IF;
    INSERT INTO cause.account VALUES (e.key::integer, 10);
    IF e.key = '3' THEN
        RAISE 'as asked';
    END IF;
END $$;
SELECT outbox.subscribe('book', '{Book}', handler => 'book', max_attempts => 1);
DO $$
BEGIN
    FOR i IN 1..5 LOOP
        PERFORM set_config('outbox.correlation_id', 'business ' || i, true);
        PERFORM set_config('outbox.headers', CASE WHEN i = 4 THEN '{"tenant": "acme"}' ELSE '' END, true);
        PERFORM outbox.publish('Book', key => i::text);
    END LOOP;
END $$;
CALL outbox.run();
SELECT r.type, coalesce(r.data->>'account', r.key) AS key, r.correlation_id, r.headers, cause.type AS cause, cause.key AS of
FROM outbox.read() r JOIN outbox.event cause ON cause.id = r.causation_id
WHERE r.type IN ('Entered', 'Late') ORDER BY r."position";
SELECT current_setting('outbox.correlation_id') AS correlation_id, current_setting('outbox.headers') AS headers;
SELECT outbox.publish('After') AS id \gset
CALL outbox.run();
SELECT correlation_id = :'id' AS own, headers, causation_id FROM outbox.read(types => '{After}');
SELECT outbox.unsubscribe('book');

-- headers that grow from cause to cause come to an end
CREATE FUNCTION grow(e outbox.event) RETURNS void LANGUAGE sql AS $$
    SELECT outbox.publish('Grow', to_jsonb(e.data::integer + 1),
                          headers => jsonb_build_object('hop ' || (e.data::integer + 1), repeat('x', 300000)))
$$;
SELECT outbox.subscribe('grow', '{Grow}', handler => 'grow', max_attempts => 1);
SELECT outbox.publish('Grow', '0') > 0 AS emitted;
CALL outbox.run();
SELECT data, (SELECT count(*) FROM jsonb_object_keys(headers)) AS headers, error FROM outbox.dead_letter WHERE subscription = 'grow';
-- what is stored out of line reaches subscribers of all kinds
CREATE FUNCTION take(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT e.headers $$;
CREATE FUNCTION take(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT length(e.headers::text) $$;
CREATE FUNCTION take_all(e outbox.event[]) RETURNS void LANGUAGE sql AS $$ SELECT length(e[1].headers::text) $$;
CREATE FUNCTION take_json(e jsonb) RETURNS void LANGUAGE sql AS $$ SELECT length(e::text) $$;
SELECT outbox.subscribe('as notification', '{Grow}', channel => 'grown', payload => 'event', start => 'beginning', max_attempts => 1);
SELECT outbox.subscribe('as event', '{Grow}', handler => 'take', filter => 'headers IS NOT NULL', start => 'beginning', max_attempts => 1);
SELECT outbox.subscribe('as array', '{Grow}', handler => 'take_all', start => 'beginning', max_attempts => 1);
SELECT outbox.subscribe('as json', '{Grow}', handler => 'take_json', start => 'beginning', max_attempts => 1);
SELECT outbox.aggregate('as state', '{Grow}', 'Grown', 'take', max_events => 3, start => 'beginning');
CALL outbox.run();
SELECT name, delivered, failed, last_error FROM outbox.status WHERE name LIKE 'as%' ORDER BY name;

RESET search_path;
DROP SCHEMA cause CASCADE;
DROP EXTENSION pg_outbox;
