-- What goes wrong around a handler stays there: run() goes on with the others,
-- and neither an error nor a setting of its caller leaves anything behind.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA trouble;
SET search_path = trouble;
SET client_min_messages = error;

-- an error before any handler is called
CREATE TABLE done ("position" bigint, type text);
CREATE FUNCTION broken(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken'; END $$;
CREATE FUNCTION works(e outbox.event) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO trouble.done VALUES (outbox.current_position(), e.type); END $$;
SELECT outbox.subscribe('a', types => '{A}', handler => 'broken', backoff => '0', max_attempts => 1000);
SELECT outbox.subscribe('b', types => '{A}', handler => 'works');
SELECT outbox.publish('A') = 1 AS first;
CALL outbox.run(1);
TRUNCATE done;
UPDATE outbox.delivery SET event_id = 999;
SELECT outbox.publish('A') IS NOT NULL AS published;
CALL outbox.run();
SELECT max("position") FROM done;
SELECT outbox.unsubscribe('a'), outbox.unsubscribe('b');

-- events of a handler's deferred triggers come from the event it handles
CREATE TABLE deferred (n integer);
CREATE FUNCTION deferred() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM outbox.publish('Deferred', jsonb_build_object('by', outbox.current_subscription())); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION deferred();
CREATE FUNCTION defers(e outbox.event) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO trouble.deferred VALUES (1); PERFORM outbox.publish('Direct'); END $$;
SELECT outbox.subscribe('c', types => '{C}', handler => 'defers');
SET outbox.correlation_id = 'the whole';
SELECT outbox.publish('C') AS cause \gset
RESET outbox.correlation_id;
CALL outbox.run();
SELECT type, correlation_id, causation_id = :cause AS caused, data
FROM outbox.event WHERE type IN ('Direct', 'Deferred') ORDER BY id;
SELECT outbox.unsubscribe('c');

-- a handler that catches the end of its time: the next one's error is its own
CREATE FUNCTION catches(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.key = 'plain' THEN
        RAISE 'plain';
    END IF;
    PERFORM pg_sleep(3600);
EXCEPTION WHEN query_canceled THEN
    NULL;
END $$;
SELECT outbox.subscribe('d', types => '{D}', handler => 'catches', timeout => '10 ms', max_attempts => 1);
SELECT count(outbox.publish('D', key => k)) FROM unnest('{slow,plain}'::text[]) k;
CALL outbox.run();
SELECT error FROM outbox.dead_letter;
SELECT outbox.unsubscribe('d');

-- a run() that is cancelled leaves no memory behind (version 13 cannot tell)
CREATE FUNCTION endless(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(3600)';
SELECT outbox.subscribe('e', types => '{E}', handler => 'endless');
SELECT outbox.publish('E') IS NOT NULL AS published;
SET statement_timeout = '500ms';
\set VERBOSITY terse
CALL outbox.run();
RESET statement_timeout;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_backend_memory_contexts WHERE name IN ('pg_outbox pass', 'pg_outbox run')) THEN
        RAISE 'run() has left memory behind';
    END IF;
EXCEPTION WHEN undefined_table THEN
    NULL;
END $$;
SELECT outbox.unsubscribe('e');

-- how the log is stored is not for the caller of run() to say
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_inherits
                     WHERE inhparent = 'outbox.event'::regclass AND inhrelid <> 'outbox.event_default'::regclass LOOP
        EXECUTE format('DROP TABLE %s', partition);
    END LOOP;
END $$;
CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
SET default_table_access_method = other;
CALL outbox.run();
SHOW default_table_access_method;
RESET default_table_access_method;
SELECT amname, count(*) > 2 AS partitions FROM pg_inherits
JOIN pg_class c ON c.oid = inhrelid JOIN pg_am a ON a.oid = relam
WHERE inhparent = 'outbox.event'::regclass GROUP BY 1;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP ACCESS METHOD other;
DROP SCHEMA trouble CASCADE;
