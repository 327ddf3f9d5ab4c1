-- Calls of one batch share a session and a transaction: what is only a failure
-- in company is none.
CREATE EXTENSION pg_outbox;
CREATE TABLE effect (position bigint, key text, xid xid8 DEFAULT pg_current_xact_id());
CREATE FUNCTION publish_some(first int, last int) RETURNS bigint LANGUAGE sql AS
    'SELECT count(*) FROM (SELECT outbox.publish(''x'', key => ''k'' || g) FROM generate_series(first, last) g OFFSET 0) s';
-- the state of the subscription, and of the effects: once each
CREATE VIEW result AS
SELECT name, delivered, failed, dead, retrying,
       (SELECT count(*) FROM effect) AS effects, (SELECT count(DISTINCT position) FROM effect) AS distinct_effects
FROM outbox.status;

-- a work table, as many functions have one
CREATE FUNCTION with_table(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE work ON COMMIT DROP AS SELECT e.key AS key;
    INSERT INTO effect SELECT outbox.current_position(), key FROM work;
END $$;
SELECT outbox.subscribe('s', handler => 'with_table', max_attempts => 1);
SELECT publish_some(1, 500);
CALL outbox.run();
SELECT * FROM result;
-- so they are tried by twos now and then, and not each one
SELECT count(DISTINCT xid) AS transactions FROM effect;
SELECT count(*) AS out_of_order FROM (SELECT position < lag(position) OVER (ORDER BY ctid) AS falls FROM effect) s WHERE falls;
SELECT outbox.unsubscribe('s');
TRUNCATE effect;

-- likewise in arrays, in a filter, in retries, and under strict
CREATE FUNCTION with_tables(e outbox.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE work ON COMMIT DROP AS SELECT * FROM unnest(e);
    INSERT INTO effect SELECT outbox.position_of(id), key FROM work;
    IF array_length(e, 1) > 3 THEN
        RAISE 'too many';
    END IF;
END $$;
SELECT outbox.subscribe('s', handler => 'with_tables', max_attempts => 1, batch_size => 50);
SELECT publish_some(1, 200);
CALL outbox.run();
SELECT * FROM result;
SELECT outbox.unsubscribe('s');
TRUNCATE effect;

CREATE FUNCTION prepares(key text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PREPARE p AS SELECT 1;
    CREATE TEMP TABLE work ON COMMIT DROP AS SELECT 1;
    RETURN key <> 'k7';
END $$;
CREATE FUNCTION plain(e outbox.event) RETURNS void LANGUAGE sql AS
    'INSERT INTO effect VALUES (outbox.current_position(), e.key)';
SELECT outbox.subscribe('s', handler => 'plain', filter => 'prepares(key)', max_attempts => 1);
SELECT publish_some(1, 50);
CALL outbox.run();
SELECT * FROM result;
SELECT outbox.unsubscribe('s');
TRUNCATE effect;

CREATE TABLE mood (good boolean);
INSERT INTO mood VALUES (false);
CREATE FUNCTION moody(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT (SELECT good FROM mood) THEN
        RAISE 'not now';
    END IF;
    PREPARE p AS SELECT 1;
    CREATE TEMP TABLE work ON COMMIT DROP AS SELECT 1;
    INSERT INTO effect VALUES (outbox.current_position(), e.key);
END $$;
SELECT outbox.subscribe('s', handler => 'moody', max_attempts => 2, backoff => '1 hour');
SELECT publish_some(1, 30);
CALL outbox.run();
SELECT retrying, dead FROM result;
UPDATE mood SET good = true;
UPDATE outbox.delivery SET next_at = now();
\c -
CALL outbox.run();
SELECT * FROM result;
SELECT outbox.unsubscribe('s');
TRUNCATE effect;

SELECT outbox.subscribe('s', handler => 'with_table', max_attempts => 1, ordering => 'strict');
SELECT publish_some(1, 30);
CALL outbox.run();
SELECT * FROM result;
SELECT outbox.unsubscribe('s');
TRUNCATE effect;

-- what a rolled-back call leaves in the session is gone before the next try
CREATE FUNCTION leaves(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('PREPARE %I AS SELECT 1', e.key);
    PERFORM pg_advisory_lock(4711);
    IF (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objid = 4712) > 0 THEN
        RAISE 'the lock of another try is still there';
    END IF;
    INSERT INTO effect VALUES (outbox.current_position(), e.key);
    IF e.key IN ('k3', 'k9', 'k10') THEN
        PERFORM pg_advisory_lock(4712);
        RAISE 'it fails';
    END IF;
END $$;
SELECT outbox.subscribe('s', handler => 'leaves', max_attempts => 1);
SELECT publish_some(1, 20);
CALL outbox.run();
SELECT * FROM result;
SELECT key, error, attempts FROM outbox.dead_letter ORDER BY "position";
SELECT outbox.unsubscribe('s');
TRUNCATE effect;

-- each event that fails is called in company and alone, and costs the others one more call
CREATE SEQUENCE calls;
CREATE FUNCTION fails(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('calls');
    INSERT INTO effect VALUES (outbox.current_position(), e.key);
    IF substr(e.key, 2)::int % 100 = 0 THEN
        RAISE 'it fails';
    END IF;
END $$;
SELECT outbox.subscribe('s', handler => 'fails', max_attempts => 1);
SELECT publish_some(1, 1000);
CALL outbox.run();
SELECT * FROM result;
SELECT count(DISTINCT xid) < 20 AS few_transactions FROM effect;
SELECT nextval('calls') < 2100 AS few_calls;
SELECT outbox.unsubscribe('s');
TRUNCATE effect;
-- many that fail one after another are alone each
SELECT outbox.subscribe('s', handler => 'fails', max_attempts => 1);
SELECT count(outbox.publish('x', key => 'k100')) FROM generate_series(1, 100);
SELECT setval('calls', 1);
CALL outbox.run();
SELECT * FROM result;
SELECT nextval('calls') < 110 AS few_calls;
SELECT outbox.unsubscribe('s');

-- locks that all calls of a batch hold together are more than there is room for
CREATE FUNCTION locks(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(outbox.current_position() * 1000 + g) FROM generate_series(1, 500) g;
    INSERT INTO effect VALUES (outbox.current_position(), e.key);
END $$;
SELECT outbox.subscribe('s', handler => 'locks', max_attempts => 1);
SELECT publish_some(1, 100);
SET client_min_messages = error;
DO $$
BEGIN
    FOR i IN 1..20 LOOP
        CALL outbox.run();
        EXIT WHEN (SELECT lag = 0 FROM outbox.status);
    END LOOP;
END $$;
RESET client_min_messages;
SELECT * FROM result;
SELECT outbox.unsubscribe('s');
DROP VIEW result;
DROP TABLE effect, mood;
DROP SEQUENCE calls;
DROP EXTENSION pg_outbox CASCADE;
