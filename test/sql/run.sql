-- CALL outbox.run(): handlers are guests in the caller's session.
CREATE EXTENSION pg_outbox;
CREATE ROLE regress_run_owner LOGIN;
GRANT EXECUTE ON PROCEDURE outbox.run TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.subscribe, outbox.unsubscribe TO regress_run_owner;
CREATE SCHEMA regress_run;
GRANT ALL ON SCHEMA regress_run TO PUBLIC;
SET search_path = regress_run, public;
CREATE TABLE ran (key text, as_role text);
GRANT INSERT, SELECT ON ran TO PUBLIC;
CREATE TABLE secret (ours text);
INSERT INTO secret VALUES ('ours');
CREATE SEQUENCE counter;
GRANT ALL ON SEQUENCE counter TO PUBLIC;

-- what a session has
CREATE VIEW session_has AS
SELECT 'prepared' AS what, name FROM pg_prepared_statements
UNION ALL SELECT 'cursor', name FROM pg_cursors WHERE is_holdable
UNION ALL SELECT 'temporary', c.relname FROM pg_class c WHERE c.relnamespace = pg_my_temp_schema() AND c.relkind IN ('r', 'v')
UNION ALL SELECT 'temporary', p.proname FROM pg_proc p WHERE p.pronamespace = pg_my_temp_schema()
UNION ALL SELECT 'lock', objid::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'channel', channel FROM pg_listening_channels() channel
UNION ALL SELECT 'setting', setting FROM pg_settings WHERE name = 'work_mem' AND setting <> '4096';
GRANT SELECT ON session_has TO PUBLIC;

CREATE FUNCTION leave(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('PREPARE theirs_%s AS SELECT 1', e.key);
    EXECUTE format('DECLARE theirs_%s CURSOR WITH HOLD FOR SELECT 1', e.key);
    EXECUTE format('CREATE TEMP TABLE theirs_%s (id int PRIMARY KEY, t text)', e.key);
    EXECUTE format('CREATE TEMP VIEW theirs_view_%s AS SELECT 1', e.key);
    EXECUTE format('CREATE FUNCTION pg_temp.theirs_%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', e.key);
    EXECUTE format('LISTEN theirs_%s', e.key);
    PERFORM pg_advisory_lock(ascii(e.key)), pg_advisory_lock_shared(ascii(e.key)), pg_advisory_lock(ascii(e.key));
    PERFORM set_config('work_mem', '5MB', false);
    PERFORM nextval('counter');
    INSERT INTO ran VALUES (e.key, current_user);
    IF e.key = 'f' THEN
        RAISE 'it fails';
    END IF;
END $$;

-- nothing of theirs stays, whether the batch stood or failed
SELECT outbox.subscribe('leave', handler => 'leave', max_attempts => 1);
SELECT outbox.publish('x', key => k) > 0 AS emitted FROM unnest('{a,f,c}'::text[]) k;
CALL outbox.run();
SELECT * FROM session_has ORDER BY 1, 2;
SELECT * FROM ran ORDER BY 1;
SELECT key, error FROM outbox.dead_letter;

\c -
SET search_path = regress_run, public;
SELECT outbox.redrive('leave') > 0 AS redriven;
CALL outbox.run();
SELECT currval('counter');
SELECT lastval();
SELECT key, error FROM outbox.dead_letter;

-- all that was there before does
PREPARE ours AS SELECT ours FROM secret;
DECLARE ours CURSOR WITH HOLD FOR SELECT ours FROM secret;
CREATE TEMP TABLE ours (ours text);
INSERT INTO ours VALUES ('row');
LISTEN ours;
SELECT pg_advisory_lock(1), pg_advisory_lock(1);
CREATE SEQUENCE ours_counter;
SELECT nextval('ours_counter');
SET work_mem = '6MB';
SELECT * FROM session_has ORDER BY 1, 2;
TRUNCATE ran;
SELECT outbox.publish('x', key => k) > 0 AS emitted FROM unnest('{a,f,c}'::text[]) k;
CALL outbox.run();
SELECT * FROM session_has ORDER BY 1, 2;
EXECUTE ours;
FETCH ours;
SELECT * FROM ours;
SELECT currval('ours_counter');
SELECT pg_advisory_unlock(1), pg_advisory_unlock(1);
SELECT * FROM ran ORDER BY 1;
-- what a handler puts in the place of one of them is not
CREATE FUNCTION replace_ours(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DEALLOCATE ours;
    PREPARE ours AS SELECT 'theirs';
    EXECUTE 'CLOSE ours';
    EXECUTE 'DECLARE ours CURSOR WITH HOLD FOR SELECT ''theirs''';
    UNLISTEN *;
END $$;
SELECT outbox.unsubscribe('leave');
SELECT outbox.subscribe('replace', handler => 'replace_ours');
SELECT outbox.publish('x') > 0 AS emitted;
CALL outbox.run();
SELECT * FROM session_has ORDER BY 1, 2;
SELECT outbox.unsubscribe('replace');
-- what it discards is its own, all but what the caller had
PREPARE ours AS SELECT ours FROM secret;
DECLARE ours CURSOR WITH HOLD FOR SELECT ours FROM secret;
CREATE FUNCTION discard_all(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE theirs (i integer);
    PREPARE theirs AS SELECT 1;
    EXECUTE 'DECLARE theirs CURSOR WITH HOLD FOR SELECT 1';
    DISCARD TEMP;
    DEALLOCATE ALL;
    EXECUTE 'CLOSE ALL';
    DISCARD SEQUENCES;
    DISCARD PLANS;
    INSERT INTO ran SELECT 'left: ' || coalesce(string_agg(name, ', '), 'nothing') FROM
        (SELECT name FROM pg_prepared_statements WHERE name = 'theirs' UNION ALL SELECT name FROM pg_cursors WHERE name = 'theirs'
         UNION ALL SELECT relname FROM pg_class WHERE relname = 'theirs') AS there;
END $$;
SELECT outbox.subscribe('discard', handler => 'discard_all', max_attempts => 1);
TRUNCATE ran;
SELECT outbox.publish('x') > 0 AS emitted;
CALL outbox.run();
TABLE ran;
SELECT * FROM session_has ORDER BY 1, 2;
EXECUTE ours;
FETCH ours;
SELECT * FROM ours;
SELECT currval('ours_counter');
SELECT outbox.unsubscribe('discard');
DEALLOCATE ours;
CLOSE ours;
DROP TABLE pg_temp.ours;
UNLISTEN *;
RESET work_mem;

-- run() in a loop over a cursor, and by a prepared statement
PREPARE again AS SELECT 1;
SELECT outbox.subscribe('leave', handler => 'leave', max_attempts => 1);
DO $$
DECLARE
    k text;
BEGIN
    FOR k IN SELECT * FROM unnest('{a,b}'::text[]) LOOP
        PERFORM outbox.publish('x', key => k);
        COMMIT;
        CALL outbox.run();
    END LOOP;
END $$;
SELECT * FROM session_has ORDER BY 1, 2;
SELECT outbox.unsubscribe('leave');
DEALLOCATE again;

-- who has set the role: nothing runs with the rights of the one who has logged in
CREATE TABLE trap (what text, as_role text);
GRANT INSERT ON trap TO PUBLIC;
CREATE FUNCTION escape(way text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        IF way = 'role' THEN
            RESET ROLE;
        ELSIF way = 'local' THEN
            SET LOCAL ROLE NONE;
        ELSIF way = 'config' THEN
            PERFORM set_config('role', 'none', false);
        ELSIF way = 'session' THEN
            RESET SESSION AUTHORIZATION;
        ELSIF way = 'default' THEN
            SET SESSION AUTHORIZATION DEFAULT;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    INSERT INTO regress_run.trap VALUES (way, current_user);
    RETURN way;
END $$;
CREATE FUNCTION escape_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM regress_run.escape(NEW.way);
    RETURN NULL;
END $$;
SET ROLE regress_run_owner;
CREATE TABLE deferring (way text);
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON deferring DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION escape_later();
RESET ROLE;
CREATE FUNCTION attack(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM regress_run.escape(e.key);
    EXECUTE format('DECLARE held_%s CURSOR WITH HOLD FOR SELECT regress_run.escape(%L)', e.key, e.key);
    INSERT INTO regress_run.deferring VALUES (e.key);
    EXECUTE format('DECLARE held_later_%s CURSOR WITH HOLD FOR WITH w AS (SELECT regress_run.escape(%L)) SELECT * FROM w', e.key, e.key);
    CREATE TEMP TABLE IF NOT EXISTS secret (ours text);
    EXECUTE format('PREPARE get_%s AS SELECT regress_run.escape(''role'')', e.key);
END $$;
SET ROLE regress_run_owner;
SELECT outbox.subscribe('attack', handler => 'attack');
RESET ROLE;
SELECT outbox.publish('x', key => k) > 0 AS emitted FROM unnest('{role,local,config,session,default}'::text[]) k;
SET ROLE regress_run_owner;
CALL outbox.run();
SELECT current_user;
RESET ROLE;
SELECT as_role, count(DISTINCT what) FROM trap GROUP BY 1;
SELECT * FROM session_has ORDER BY 1, 2;
SELECT * FROM secret;
SELECT name, state, delivered, last_error FROM outbox.status;
TRUNCATE trap;
SELECT outbox.publish('x', key => k) > 0 AS emitted FROM unnest('{role,local,config,session,default}'::text[]) k;
SET SESSION AUTHORIZATION regress_run_owner;
CALL outbox.run();
SELECT current_user, session_user;
RESET SESSION AUTHORIZATION;
SELECT as_role, count(DISTINCT what) FROM trap GROUP BY 1;
SELECT * FROM session_has ORDER BY 1, 2;
SELECT name, state, delivered FROM outbox.status;
-- what comes after run() may change the role again
SET ROLE regress_run_owner;
RESET ROLE;
SELECT current_user = session_user AS same;

SELECT outbox.unsubscribe('attack');
DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA regress_run CASCADE;
DROP ROLE regress_run_owner;
