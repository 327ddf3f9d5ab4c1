-- Who may do what: PUBLIC next to nothing, everyone else what was granted, and
-- nobody more than that by way of the extension.
SET client_min_messages = warning;
CREATE ROLE regress_outbox_admin SUPERUSER;
CREATE ROLE regress_outbox_hostile LOGIN;
CREATE ROLE regress_outbox_producer LOGIN;
CREATE ROLE regress_outbox_consumer LOGIN;
CREATE ROLE regress_outbox_observer LOGIN;
CREATE ROLE regress_outbox_team;
CREATE ROLE regress_outbox_member LOGIN IN ROLE regress_outbox_team;
CREATE ROLE regress_outbox_distant NOINHERIT LOGIN IN ROLE regress_outbox_team;
CREATE ROLE regress_outbox_writer LOGIN;

-- what PUBLIC may do with everything in the schema
CREATE TEMP VIEW public_right AS
    SELECT 'schema' AS kind, n.nspname::text AS name, a.privilege_type, a.is_grantable
    FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
    WHERE n.nspname = 'outbox' AND a.grantee = 0
    UNION ALL
    SELECT 'routine', f.proname, a.privilege_type, a.is_grantable
    FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace,
         aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
    WHERE n.nspname = 'outbox' AND a.grantee = 0
    UNION ALL
    SELECT 'relation', c.relname, a.privilege_type, a.is_grantable
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
         aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
    WHERE n.nspname = 'outbox' AND a.grantee = 0
    UNION ALL
    SELECT 'column', c.relname || '.' || t.attname, a.privilege_type, a.is_grantable
    FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace,
         aclexplode(t.attacl) a
    WHERE n.nspname = 'outbox' AND a.grantee = 0;

-- a schema that somebody else has prepared is refused
DROP SCHEMA IF EXISTS outbox;
CREATE SCHEMA outbox AUTHORIZATION regress_outbox_hostile;
\set SHOW_CONTEXT never
CREATE EXTENSION pg_outbox;
\set SHOW_CONTEXT errors
ALTER SCHEMA outbox OWNER TO CURRENT_USER;
-- also when it is ours by now, but not what is in it
CREATE FUNCTION outbox.max(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 1/0::bigint';
\set VERBOSITY terse
CREATE EXTENSION pg_outbox;
DROP FUNCTION outbox.max;
ALTER DEFAULT PRIVILEGES IN SCHEMA outbox GRANT ALL ON TABLES TO regress_outbox_hostile;
CREATE EXTENSION pg_outbox;
ALTER DEFAULT PRIVILEGES IN SCHEMA outbox REVOKE ALL ON TABLES FROM regress_outbox_hostile;
-- default privileges do not get in either; an empty schema of another
-- superuser is what pg_restore makes
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO PUBLIC;
ALTER SCHEMA outbox OWNER TO regress_outbox_admin;
CREATE EXTENSION pg_outbox;
SELECT * FROM public_right ORDER BY 1, 2;
ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON SEQUENCES FROM PUBLIC;
DROP EXTENSION pg_outbox;
DROP SCHEMA outbox;
\set VERBOSITY default
CREATE EXTENSION pg_outbox;
SET outbox.partition_interval = '1s';
CALL outbox.run();

-- PUBLIC: what it may do with everything in the schema
SELECT * FROM public_right ORDER BY 1, 2;
-- types: no table's row type but the handlers' argument
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p')
  AND has_type_privilege('regress_outbox_hostile', c.reltype, 'USAGE');
-- nobody but the owner has anything else
SELECT count(*) FROM pg_proc f, aclexplode(f.proacl) a
WHERE f.pronamespace = 'outbox'::regnamespace AND a.grantee NOT IN (0, f.proowner);
SELECT count(*) FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'outbox'::regnamespace AND a.grantee <> c.relowner;
-- what runs with the owner's rights reads only, and has its search_path pinned
SELECT proname, provolatile, 'search_path=pg_catalog, pg_temp' = ANY (proconfig) AS pinned
FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace AND prosecdef ORDER BY proname;
-- what is not in C has its search_path pinned
SELECT proname FROM pg_proc f JOIN pg_language l ON l.oid = f.prolang
WHERE pronamespace = 'outbox'::regnamespace AND lanname <> 'c'
  AND NOT 'search_path=pg_catalog, pg_temp' = ANY (coalesce(proconfig, '{}'));

-- someone without a grant
SET ROLE regress_outbox_hostile;
SELECT outbox.publish('x');
SELECT outbox.publish_many('[{"type": "x"}]');
SELECT * FROM outbox.read();
SELECT outbox.head();
SELECT outbox.oldest();
SELECT outbox.position_of(1);
SELECT outbox.subscribe('x', channel => 'x');
SELECT outbox.unsubscribe('x');
SELECT outbox.pause('x');
SELECT outbox.resume('x');
SELECT outbox.capture('pg_class');
SELECT outbox.uncapture('pg_class');
SELECT outbox.wait();
SELECT outbox.apply_retention();
CALL outbox.run();
SELECT * FROM outbox.event;
SELECT * FROM outbox.segment;
SELECT * FROM outbox.subscription;
SELECT * FROM outbox.progress;
SELECT * FROM outbox.delivery;
SELECT * FROM outbox.status;
SELECT * FROM outbox.worker;
SELECT * FROM outbox.dead_letter;
SELECT * FROM outbox.capture_rule;
SELECT nextval('outbox.event_id_seq');
SELECT setval('outbox.event_id_seq', 1);
SELECT currval('outbox.event_id_seq');
CREATE TABLE outbox.mine (i integer);
SELECT outbox.refuse_change();
CREATE TEMP TABLE mine (i integer);
CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{}');
CREATE TRIGGER t AFTER TRUNCATE ON mine EXECUTE FUNCTION outbox.capture_statement('{}');
CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION outbox.refuse_change();
DROP TABLE mine;
-- what PUBLIC may
SELECT outbox.current_position(), outbox.current_attempt(), outbox.current_subscription(), outbox.is_replay();
CREATE FUNCTION pg_temp.takes(outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION pg_temp.takes(outbox.event[]) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT (NULL::outbox.event).type;
-- settings of the service are not everybody's
SET outbox.retention = 0;
SET outbox.max_retention = 0;
SET outbox.partition_interval = 1;
SET outbox.max_workers = 0;
SET outbox.poll_interval = 1000;
SET outbox.max_depth = 1000;
SET outbox.idempotency_window = 1;
SET outbox.correlation_id = 'mine';
RESET outbox.correlation_id;
DROP FUNCTION pg_temp.takes(outbox.event), pg_temp.takes(outbox.event[]);
RESET ROLE;

-- a producer needs EXECUTE on publish, and nothing else
GRANT EXECUTE ON FUNCTION outbox.publish TO regress_outbox_producer;
SET ROLE regress_outbox_producer;
SELECT outbox.publish('FromProducer', key => 'k');
SELECT outbox.publish_many('[{"type": "x"}]');
SELECT * FROM outbox.event;
RESET ROLE;
GRANT EXECUTE ON FUNCTION outbox.publish_many TO regress_outbox_producer;
SET ROLE regress_outbox_producer;
SELECT outbox.publish_many('[{"type": "FromProducer"}]');
RESET ROLE;
CALL outbox.run();

-- a reader
GRANT EXECUTE ON FUNCTION outbox.read, outbox.head, outbox.oldest, outbox.position_of TO regress_outbox_observer;
SET ROLE regress_outbox_observer;
SELECT "position", type FROM outbox.read();
SELECT outbox.head(), outbox.oldest(), outbox.position_of(1);
SELECT * FROM outbox.event;
RESET ROLE;
-- ... of the table
GRANT SELECT ON outbox.event TO regress_outbox_observer;
SET ROLE regress_outbox_observer;
SELECT type, key FROM outbox.event ORDER BY id;
SELECT * FROM outbox.event FOR UPDATE;
DELETE FROM outbox.event;
RESET ROLE;

-- an observer needs SELECT on the views, and nothing else
GRANT SELECT ON outbox.status, outbox.dead_letter, outbox.capture_rule TO regress_outbox_observer;
CREATE SCHEMA regress_outbox_private;
CREATE FUNCTION regress_outbox_private.fails(jsonb) RETURNS void LANGUAGE sql AS 'SELECT 1/0';
SELECT outbox.subscribe('fails', handler => 'regress_outbox_private.fails', max_attempts => 1, start => 'beginning');
CALL outbox.run();
CREATE TABLE captured (id integer PRIMARY KEY, secret text);
SELECT outbox.capture('captured', exclude => '{secret}');
SET ROLE regress_outbox_observer;
SELECT name, kind, state, dead, last_error FROM outbox.status;
SELECT subscription, type, error FROM outbox.dead_letter ORDER BY "position";
SELECT relation, name, columns FROM outbox.capture_rule;
SELECT outbox.pause('fails');
RESET ROLE;
GRANT EXECUTE ON FUNCTION outbox.pause, outbox.resume, outbox.unsubscribe, outbox.wait, outbox.apply_retention TO regress_outbox_observer;
GRANT EXECUTE ON PROCEDURE outbox.run TO regress_outbox_observer;
SET ROLE regress_outbox_observer;
\set VERBOSITY terse
SELECT outbox.pause('fails');
SELECT outbox.resume('fails');
SELECT outbox.unsubscribe('fails');
\set VERBOSITY default
SELECT outbox.wait();
SELECT outbox.apply_retention() >= 0 AS ran;
CALL outbox.run();
RESET ROLE;
SELECT outbox.unsubscribe('fails');

-- a writer of a captured table needs no right on the extension
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON captured TO regress_outbox_writer;
SET ROLE regress_outbox_writer;
INSERT INTO captured VALUES (1, 's'), (2, 's');
UPDATE captured SET id = 3 WHERE id = 2;
DELETE FROM captured WHERE id = 1;
TRUNCATE captured;
SELECT count(*) FROM outbox.event;
SELECT outbox.capture('captured', name => 'mine');
SELECT outbox.uncapture('captured');
RESET ROLE;
SELECT type, source, data, old FROM outbox.event WHERE source = 'public.captured' ORDER BY id;
GRANT EXECUTE ON FUNCTION outbox.capture, outbox.uncapture TO regress_outbox_writer;
SET ROLE regress_outbox_writer;
SELECT outbox.capture('captured', name => 'mine');
SELECT outbox.uncapture('captured');
SELECT outbox.capture('pg_class');
SELECT outbox.capture('outbox.event');
SELECT outbox.capture('outbox.subscription');
RESET ROLE;
GRANT CREATE ON SCHEMA regress_outbox_private TO regress_outbox_writer;
GRANT USAGE ON SCHEMA regress_outbox_private TO regress_outbox_writer;
SET ROLE regress_outbox_writer;
CREATE TABLE regress_outbox_private.own (id integer PRIMARY KEY);
SELECT outbox.capture('regress_outbox_private.own');
INSERT INTO regress_outbox_private.own VALUES (1);
SELECT outbox.uncapture('regress_outbox_private.own');
DROP TABLE regress_outbox_private.own;
RESET ROLE;

-- subscriptions: handlers run as their owner, members may manage them
GRANT EXECUTE ON FUNCTION outbox.subscribe, outbox.unsubscribe, outbox.pause, outbox.resume
    TO regress_outbox_consumer, regress_outbox_team, regress_outbox_member, regress_outbox_distant;
GRANT EXECUTE ON PROCEDURE outbox.run TO regress_outbox_consumer, regress_outbox_team;
CREATE TABLE ran (subscription text, as_role name, session name, secret text);
GRANT INSERT, SELECT ON ran TO PUBLIC;
CREATE FUNCTION note_role(e outbox.event) RETURNS void LANGUAGE sql AS
    $$ INSERT INTO public.ran VALUES (outbox.current_subscription(), current_user, session_user) $$;
CREATE FUNCTION not_for_all(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
REVOKE EXECUTE ON FUNCTION not_for_all FROM PUBLIC;
CREATE FUNCTION regress_outbox_private.hidden(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
SET ROLE regress_outbox_consumer;
SELECT outbox.subscribe('consumer', handler => 'note_role');
SELECT outbox.subscribe('refused', handler => 'not_for_all');
SELECT outbox.subscribe('refused', handler => 'regress_outbox_private.hidden');
RESET ROLE;
-- NOLOGIN: a warning where workers need it
SET client_min_messages = error;
SET ROLE regress_outbox_team;
SELECT outbox.subscribe('team', handler => 'note_role');
RESET ROLE;
SET client_min_messages = warning;
SELECT outbox.subscribe('mine', handler => 'note_role');
SELECT name, owner = current_user AS mine, CASE WHEN owner <> current_user THEN owner END AS owner FROM outbox.status ORDER BY name;
SET ROLE regress_outbox_member;
SELECT outbox.pause('team');
SELECT outbox.resume('team');
SELECT outbox.pause('consumer');
\set VERBOSITY terse
SELECT outbox.unsubscribe('mine');
\set VERBOSITY default
SET ROLE regress_outbox_distant;
SELECT outbox.pause('team');
SET ROLE regress_outbox_team;
SELECT outbox.pause('team');
SELECT outbox.resume('team');
RESET ROLE;
-- run() serves the caller's own, as the caller
SELECT outbox.publish('x') > 0 AS emitted;
CALL outbox.run();
SELECT subscription, as_role = current_user AS as_me FROM ran;
SET ROLE regress_outbox_consumer;
CALL outbox.run();
SET ROLE regress_outbox_team;
CALL outbox.run();
RESET ROLE;
SELECT subscription, as_role, session = session_user AS session FROM ran WHERE subscription <> 'mine' ORDER BY 1;
-- a right that is taken away stops the subscription, and says so
REVOKE EXECUTE ON FUNCTION note_role FROM PUBLIC;
SELECT name, state, last_error FROM outbox.status WHERE name = 'consumer';
SELECT outbox.publish('x') > 0 AS emitted;
SET ROLE regress_outbox_consumer;
CALL outbox.run();
RESET ROLE;
SELECT name, state, lag, dead, last_error FROM outbox.status WHERE name = 'consumer';
GRANT EXECUTE ON FUNCTION note_role TO PUBLIC;
SET ROLE regress_outbox_consumer;
CALL outbox.run();
RESET ROLE;
SELECT name, state, lag, dead FROM outbox.status WHERE name = 'consumer';
SELECT outbox.unsubscribe(name) FROM outbox.status;

-- a handler that runs in run() cannot become somebody else, not even after SET SESSION AUTHORIZATION
CREATE FUNCTION becomes(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.ran VALUES (e.key, current_user);
    IF e.key = 'set role' THEN
        SET ROLE regress_outbox_admin;
    ELSIF e.key = 'reset role' THEN
        RESET ROLE;
    ELSIF e.key = 'local' THEN
        SET LOCAL ROLE NONE;
    END IF;
    INSERT INTO public.ran VALUES (e.key, current_user, NULL, 'after');
END $$;
TRUNCATE ran;
SET SESSION AUTHORIZATION regress_outbox_consumer;
SELECT outbox.subscribe('becomes', handler => 'becomes', max_attempts => 1);
RESET SESSION AUTHORIZATION;
SELECT outbox.publish('x', key => k) > 0 AS emitted FROM unnest('{set role,reset role,local,last}'::text[]) k;
SET SESSION AUTHORIZATION regress_outbox_consumer;
CALL outbox.run();
SELECT current_user;
RESET SESSION AUTHORIZATION;
SELECT subscription, as_role, secret FROM ran;
SELECT key, error FROM outbox.dead_letter ORDER BY "position";
-- nor the session's user, who has only set the role
TRUNCATE ran;
SELECT outbox.publish('x', key => k) > 0 AS emitted FROM unnest('{set role,reset role,local,last}'::text[]) k;
SET ROLE regress_outbox_consumer;
CALL outbox.run();
SELECT current_user;
RESET ROLE;
SELECT subscription, as_role, secret FROM ran;
SELECT key, error FROM outbox.dead_letter ORDER BY "position" OFFSET 3;
SELECT outbox.unsubscribe('becomes');

-- objects planted where a hostile role may create them are found by nothing of ours
CREATE SCHEMA planted;
GRANT ALL ON SCHEMA planted TO regress_outbox_hostile;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
SET ROLE regress_outbox_hostile;
CREATE TABLE planted.trap (what text);
GRANT ALL ON planted.trap TO PUBLIC;
CREATE FUNCTION planted.spring(what text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO planted.trap VALUES (what || ' as ' || current_user); RAISE 'trap: %', what; END $$;
DO $$
DECLARE
    f record;
    made integer := 0;
BEGIN
    -- functions and operators that views or queries might name, for the very
    -- types that they would be called with
    FOR f IN SELECT * FROM (VALUES
        ('max', 'bigint', 'bigint'), ('min', 'bigint', 'bigint'), ('count', 'bigint', 'bigint'),
        ('max', 'timestamptz', 'timestamptz'), ('generate_series', 'integer, integer', 'integer'),
        ('format', 'text, text, text', 'text'), ('format', 'text, name, name', 'text'), ('format', 'text, name, text, text', 'text'),
        ('pg_get_userbyid', 'regrole', 'text'), ('has_function_privilege', 'oid, oid, text', 'boolean'),
        ('jsonb_typeof', 'jsonb', 'text'), ('convert_from', 'bytea, text', 'text'), ('convert_from', 'bytea, name', 'text'),
        ('substr', 'bytea, integer, integer', 'bytea'), ('array_remove', 'text[], text', 'text[]'), ('unnest', 'integer[]', 'integer'),
        ('length', 'bytea', 'integer'), ('pg_visible_in_snapshot', 'xid8, pg_snapshot', 'boolean'), ('nextval', 'regclass', 'bigint'),
        ('now', '', 'timestamptz'), ('clock_timestamp', '', 'timestamptz'), ('to_jsonb', 'record', 'jsonb'), ('least', 'bigint, bigint', 'bigint')
        ) AS v (name, arguments, result)
    LOOP
        EXECUTE format('CREATE FUNCTION planted.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM planted.spring(%L); RETURN NULL; END $f$',
                       f.name, f.arguments, f.result, f.name);
        made := made + 1;
    END LOOP;
    FOR f IN SELECT o, l, r FROM unnest('{=,<>,<,<=,>,>=,-,+,||}'::text[]) o,
        (VALUES ('bigint', 'bigint'), ('integer', 'integer'), ('bigint', 'integer'), ('text', 'text'), ('name', 'text'), ('text', 'name'),
                ('oid', 'oid'), ('regrole', 'oid'), ('oid', 'regrole'), ('timestamptz', 'timestamptz'), ('xid8', 'xid8'), ('jsonb', 'text')) AS t (l, r)
    LOOP
        EXECUTE format('CREATE FUNCTION planted.%I(%s, %s) RETURNS boolean LANGUAGE sql AS $f$ SELECT planted.spring(%L) $f$',
                       'op_' || made, f.l, f.r, 'operator ' || f.o);
        EXECUTE format('CREATE OPERATOR planted.%s (FUNCTION = planted.%I, LEFTARG = %s, RIGHTARG = %s)', f.o, 'op_' || made, f.l, f.r);
        made := made + 1;
    END LOOP;
    -- tables and types of our names, and of the catalogs'
    FOR f IN SELECT relname FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind IN ('r', 'p', 'v')
             UNION ALL SELECT unnest('{pg_proc,pg_class,pg_roles,pg_namespace,pg_trigger,pg_index,pg_attribute,pg_inherits}'::name[])
    LOOP
        EXECUTE format('CREATE VIEW planted.%I AS SELECT planted.spring(%L)', f.relname, 'relation ' || f.relname);
    END LOOP;
END $$;
CREATE TEMP VIEW pg_proc AS SELECT planted.spring('temporary pg_proc');
RESET ROLE;
CREATE FUNCTION public.careless(e outbox.event) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN END $$;
-- the victim, with the traps in front of everything
SET search_path = planted, pg_catalog, public;
SELECT outbox.publish('x') OPERATOR(pg_catalog.>) 0 AS emitted;
SELECT outbox.publish_many('[{"type": "x"}]');
SELECT outbox.capture('public.captured', name => 'again', condition => 'new.id OPERATOR(pg_catalog.>) 0');
INSERT INTO public.captured VALUES (7);
UPDATE public.captured SET id = 8;
TRUNCATE public.captured;
SELECT relation, name, operations, type, condition, key, columns FROM outbox.capture_rule WHERE name OPERATOR(pg_catalog.=) 'again';
SELECT outbox.uncapture('public.captured', 'again');
SELECT outbox.subscribe('victim', handler => 'public.careless');
SELECT outbox.publish('x') OPERATOR(pg_catalog.>) 0 AS emitted;
CALL outbox.run();
SELECT name, kind, state, delivered FROM outbox.status;
SELECT subscription FROM outbox.dead_letter;
SELECT pid FROM outbox.worker;
SELECT outbox.wait('victim', '0');
SELECT outbox.pause('victim');
SELECT outbox.resume('victim');
SELECT outbox.head() OPERATOR(pg_catalog.=) outbox.position_of(id) AS same FROM outbox.read(outbox.head() OPERATOR(pg_catalog.-) 1::bigint);
SELECT outbox.apply_retention();
SET outbox.retention = 0;
SELECT pg_catalog.pg_sleep(2.1);
CALL outbox.run();
SELECT outbox.apply_retention() OPERATOR(pg_catalog.>=) 0 AS ran;
RESET outbox.retention;
SELECT outbox.unsubscribe('victim');
RESET search_path;
SELECT * FROM planted.trap;
SELECT outbox.head() > 0 AS goes_on;

-- in a schema of ours nobody but us creates
SELECT has_schema_privilege('regress_outbox_hostile', 'outbox', 'CREATE') AS may_create;

DROP TABLE captured;
DROP SCHEMA planted CASCADE;
DROP OWNED BY regress_outbox_producer, regress_outbox_consumer, regress_outbox_observer, regress_outbox_team,
    regress_outbox_member, regress_outbox_distant, regress_outbox_writer, regress_outbox_hostile;
DROP SCHEMA regress_outbox_private CASCADE;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE ran;
DROP ROLE regress_outbox_admin, regress_outbox_hostile, regress_outbox_producer, regress_outbox_consumer,
    regress_outbox_observer, regress_outbox_team, regress_outbox_member, regress_outbox_distant, regress_outbox_writer;
