-- Code that a role wrote or planted runs as that role, whoever leads to it, and
-- leaves nothing behind that could run with other rights: domains' CHECKs,
-- functions, operators, casts, temporary objects, in every place where the
-- extension looks at what somebody else wrote.
SET client_min_messages = warning;
CREATE EXTENSION pg_outbox;
CREATE ROLE regress_outbox_mallory LOGIN;
CREATE ROLE regress_outbox_victim LOGIN;
CREATE ROLE regress_outbox_member LOGIN;
GRANT regress_outbox_mallory TO regress_outbox_member;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA outbox TO regress_outbox_mallory, regress_outbox_victim, regress_outbox_member;
GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO regress_outbox_mallory, regress_outbox_victim, regress_outbox_member;
DO $$ BEGIN EXECUTE format('GRANT TEMPORARY, CREATE ON DATABASE %I TO regress_outbox_mallory', current_database()); END $$;

-- what ran, as whom, and what of it could have left something behind
CREATE SCHEMA seen;
GRANT USAGE ON SCHEMA seen TO PUBLIC;
CREATE TABLE seen.ran (what text, as_whom text, escapes text);
GRANT INSERT, SELECT ON seen.ran TO PUBLIC;
CREATE FUNCTION seen.report(step text) RETURNS TABLE (path text, what text, as_whom text, escapes text) LANGUAGE sql AS $$
    WITH gone AS (DELETE FROM seen.ran RETURNING *) SELECT DISTINCT step, what, as_whom, escapes FROM gone ORDER BY 1, 2, 3, 4
$$;

SET ROLE regress_outbox_mallory;
CREATE SCHEMA mallory;
GRANT USAGE ON SCHEMA mallory TO PUBLIC;
SET search_path = mallory, public;
CREATE TABLE mallory.bait (id integer);
GRANT ALL ON mallory.bait TO PUBLIC;
CREATE FUNCTION mallory.late() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO seen.ran VALUES ('deferred trigger', current_user, ''); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON mallory.bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION mallory.late();
CREATE FUNCTION mallory.spy(what text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    attempt text;
    escapes text[] = '{}';
BEGIN
    FOREACH attempt IN ARRAY ARRAY['INSERT INTO mallory.bait VALUES (1)',
                                   'CREATE TEMPORARY TABLE IF NOT EXISTS planted (i integer)', 'CREATE TYPE mallory.made AS (i integer)', 'DROP TYPE mallory.made',
                                   'CREATE OR REPLACE FUNCTION pg_temp.planted() RETURNS integer LANGUAGE sql AS ''SELECT 1''',
                                   'RESET ROLE', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION',
                                   format('PREPARE planted_%s AS SELECT 1', (random() * 1e9)::integer), 'LISTEN planted'] LOOP
        BEGIN
            EXECUTE attempt;
            escapes = escapes || attempt;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    INSERT INTO seen.ran VALUES (what, current_user, array_to_string(escapes, ', '));
    RETURN true;
END $$;
-- immutable, so that planning runs it
CREATE FUNCTION mallory.folded(what text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN RETURN mallory.spy(what); END $$;
CREATE DOMAIN mallory.positive AS integer CHECK (mallory.spy('domain'));
CREATE TYPE mallory.pair AS (a mallory.positive, b integer);
CREATE FUNCTION mallory.to_pair(text) RETURNS mallory.pair LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.spy('cast'); RETURN ROW(NULL, 1)::mallory.pair; END $$;
CREATE CAST (text AS mallory.pair) WITH FUNCTION mallory.to_pair(text);
CREATE FUNCTION mallory.same(jsonb, text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RETURN mallory.spy('operator'); END $$;
CREATE OPERATOR mallory.= (FUNCTION = mallory.same, LEFTARG = jsonb, RIGHTARG = text);
CREATE FUNCTION mallory.handler(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION mallory.reduce(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;

-- contracts, each in a superuser's transaction; nothing of the type's is plain
SELECT outbox.register_type('Function', 'mallory.spy(''function'')');
SELECT outbox.register_type('Folded', 'mallory.folded(''folded'')');
SELECT outbox.register_type('Domain', '(data->>''n'')::mallory.positive IS NOT NULL');
SELECT outbox.register_type('Domains', 'ARRAY[(data->>''n'')::integer]::mallory.positive[] IS NOT NULL');
SELECT outbox.register_type('Read', '(data->>''list'')::mallory.positive[] IS NOT NULL');
SELECT outbox.register_type('Composite', '((data->>''pair'')::mallory.pair).b IS NOT NULL');
SELECT outbox.register_type('Cast', '(''x''::text::mallory.pair).b IS NOT NULL');
SELECT outbox.register_type('Constant', '''{1,2}''::mallory.positive[] IS NOT NULL');
SELECT outbox.register_type('Operator', 'data = ''{}''::text');
SELECT outbox.register_type('Row', '''(1,2)''::mallory.pair = ''(1,2)''::mallory.pair');
RESET ROLE;
TRUNCATE seen.ran;
-- where there are temporary objects, others would be let in
CREATE TEMPORARY TABLE already (i integer);
SELECT outbox.publish(type, '{"n": 1, "list": "{1,2}", "pair": "(1,2)"}') > 0 AS published FROM outbox.event_type ORDER BY type;
SELECT * FROM seen.report('contract');

-- filters: receive() by a superuser, and by a member
SET ROLE regress_outbox_mallory;
SELECT outbox.subscribe('f_function', types => '{Function}', filter => 'spy(''function'')');
SELECT outbox.subscribe('f_domain', types => '{Domain}', filter => '(data->>''n'')::positive > 0');
SELECT outbox.subscribe('f_cast', types => '{Cast}', filter => '(type::pair).b IS NOT NULL');
SELECT outbox.subscribe('f_constant', types => '{Constant}', filter => '''{1}''::positive[] IS NOT NULL');
SELECT outbox.subscribe('f_operator', types => '{Operator}', filter => 'data = ''{}''::text');
SELECT outbox.subscribe('f_handled', types => '{Function}', handler => 'handler');
SELECT outbox.subscribe('f_folded', types => '{Folded}', handler => 'handler');
RESET ROLE;
TRUNCATE seen.ran;
SELECT outbox.publish(type, '{"n": 1, "list": "{1,2}", "pair": "(1,2)"}') > 0 AS published FROM outbox.event_type ORDER BY type;
CALL outbox.run();
TRUNCATE seen.ran;
SELECT name, (SELECT count(*) FROM outbox.receive(name, 1)) FROM outbox.subscription WHERE name LIKE 'f\_%' AND name NOT IN ('f_handled', 'f_folded') ORDER BY name COLLATE "C";
SELECT * FROM seen.report('receive');

-- to tell what became of an event nothing of anybody's is run
SET ROLE regress_outbox_mallory;
CALL outbox.run();
SELECT outbox.alter_subscription('f_handled', filter => '(data->>''n'')::positive > 0');
SELECT outbox.alter_subscription('f_folded', filter => 'folded(''folded'')');
RESET ROLE;
TRUNCATE seen.ran;
SELECT count(*) > 0 AS there FROM outbox.event e, outbox.trace(e.correlation_id);
SELECT bool_and(outbox.why_not_delivered(id) IS NOT NULL) AS explained FROM outbox.event;
SELECT * FROM seen.report('trace');

-- a superuser alters mallory's subscription, in mallory's search_path
SELECT outbox.alter_subscription('f_handled', filter => '''{1,2}''::positive[] IS NOT NULL');
SELECT outbox.alter_subscription('f_handled', filter => '''(1,2)''::pair IS NOT NULL');
SELECT outbox.alter_subscription('f_handled', filter => 'folded(''folded'')');
SELECT * FROM seen.report('alter_subscription');

-- takes it over: nothing of mallory's search_path stays
\set VERBOSITY terse
SELECT outbox.alter_subscription('f_handled', owner => 'regress_outbox_victim');
\set VERBOSITY default
SELECT outbox.alter_subscription('f_handled', filter => 'true', handler => 'mallory.handler', owner => 'regress_outbox_victim');
\set VERBOSITY terse
SELECT outbox.alter_subscription('f_handled', filter => 'spy(''function'')');
\set VERBOSITY default
SELECT owner, filter FROM outbox.subscription WHERE name = 'f_handled';
SET ROLE regress_outbox_mallory;
SELECT outbox.aggregate('folds', '{Fold}', 'Folds', 'reduce', until => 'spy(''until'')');
SELECT outbox.aggregate('reads', '{Fold}', 'Folds', 'reduce', until => '''{1}''::positive[] IS NOT NULL');
RESET ROLE;
TRUNCATE seen.ran;
SELECT outbox.alter_subscription('reads', owner => 'regress_outbox_victim');
SELECT * FROM seen.report('until');
-- the path is what the new owner has, and what is replaced is not looked at
ALTER ROLE regress_outbox_victim SET search_path = 'seen', "$user";
SELECT outbox.alter_subscription('f_constant', filter => 'true', owner => 'regress_outbox_victim');
SELECT search_path FROM outbox.subscription WHERE name = 'f_constant';
DO $$ BEGIN EXECUTE format('ALTER ROLE regress_outbox_victim IN DATABASE %I SET search_path = pg_catalog', current_database()); END $$;
SELECT outbox.alter_subscription('f_cast', filter => 'true', owner => 'regress_outbox_victim');
SELECT search_path FROM outbox.subscription WHERE name = 'f_cast';

SELECT * FROM seen.report('owner');

-- a superuser captures mallory's table: constants of mallory's types are read
SET ROLE regress_outbox_mallory;
CREATE TABLE mallory.orders (id integer PRIMARY KEY, n mallory.positive[], p mallory.pair);
RESET ROLE;
SELECT outbox.capture('mallory.orders', condition => 'new.n = ''{1}''', type => 'a');
SELECT outbox.capture('mallory.orders', condition => 'new.p = ''(1,2)''::mallory.pair', type => 'b');
SELECT * FROM seen.report('capture');
SELECT outbox.uncapture('mallory.orders', 'a'), outbox.uncapture('mallory.orders', 'b');

-- nobody but the owner, of whichever part, evaluates what is constant in partition keys
SET ROLE regress_outbox_mallory;
CREATE FUNCTION mallory.tell() RETURNS void LANGUAGE sql AS $$ INSERT INTO seen.ran VALUES ('partition key', current_user, '') $$;
CREATE FUNCTION mallory.shift(integer) RETURNS integer IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.tell(); RETURN $1; END $$;
CREATE TABLE mallory.parts (id integer) PARTITION BY RANGE ((id + mallory.shift(1)));
CREATE TABLE mallory.part PARTITION OF mallory.parts FOR VALUES FROM (0) TO (9) PARTITION BY RANGE ((id + mallory.shift(1)));
\c
SET client_min_messages = warning;
TRUNCATE seen.ran;
SET ROLE regress_outbox_mallory;
SELECT outbox.capture('mallory.parts', key => '{id}');
RESET ROLE;
SELECT * FROM seen.report('capture of partitions by their owner');
\c
SET client_min_messages = warning;
SELECT outbox.uncapture('mallory.parts');
SELECT outbox.capture('mallory.parts', key => '{id}');
SELECT * FROM seen.report('capture of partitions by a superuser');
SELECT outbox.uncapture('mallory.parts');
TRUNCATE seen.ran;
SET search_path = mallory, public;

-- snapshot(): values and conditions are the table's owner's
SET ROLE regress_outbox_mallory;
CREATE TYPE mallory.mood AS ENUM ('sad', 'glad');
CREATE FUNCTION mallory.mood_json(mallory.mood) RETURNS json LANGUAGE plpgsql AS
    $$ BEGIN PERFORM mallory.spy('cast to json'); RETURN '{}'; END $$;
CREATE CAST (mallory.mood AS json) WITH FUNCTION mallory.mood_json(mallory.mood);
CREATE TABLE mallory.stock (id mallory.positive PRIMARY KEY, m mallory.mood);
INSERT INTO mallory.stock VALUES (1, 'sad'), (2, 'glad');
SET ROLE regress_outbox_mallory;
SELECT outbox.capture('mallory.stock');
RESET ROLE;
TRUNCATE seen.ran;
SELECT outbox.snapshot('mallory.stock', 1), outbox.snapshot('mallory.stock', 1), outbox.snapshot('mallory.stock', 1);
SELECT * FROM seen.report('snapshot');
SELECT outbox.uncapture('mallory.stock');

-- run() after SET ROLE: handlers, what they defer, and what they read; and the
-- event triggers of others, for partitions that it makes
CREATE FUNCTION seen.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM note('event trigger'); END $$;
SET outbox.partition_interval = '1s';
SELECT count(*) AS partitions FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass \gset
SET ROLE regress_outbox_mallory;
CREATE FUNCTION mallory.note(what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen.ran VALUES (what, current_user, '') $$;
CREATE FUNCTION mallory.spies(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM mallory.spy('handler'); END $$;
SELECT outbox.subscribe('spies', types => '{Spied}', handler => 'spies', filter => 'spy(''filter'')');
SELECT outbox.publish('Spied') > 0 AS published;
DEALLOCATE ALL;
DISCARD TEMP;
RESET ROLE;
CREATE EVENT TRIGGER regress_outbox_planted ON ddl_command_end EXECUTE FUNCTION seen.on_ddl();
SET ROLE regress_outbox_mallory;
CALL outbox.run();
SELECT current_user;
RESET ROLE;
DROP EVENT TRIGGER regress_outbox_planted;
RESET outbox.partition_interval;
SELECT count(*) > :partitions AS more FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass;
SELECT path, what, as_whom FROM seen.report('run');
SELECT count(*) FROM pg_prepared_statements;
SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema();

-- a member, in the subscription's search_path
SET ROLE regress_outbox_member;
SELECT outbox.alter_subscription('spies', filter => '''{1,2}''::positive[] IS NOT NULL AND spy(''filter'')');
RESET ROLE;
SELECT * FROM seen.report('member');

-- temporary objects are no part of what is stored
SET ROLE regress_outbox_mallory;
CREATE FUNCTION pg_temp.mine(text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE DOMAIN pg_temp.short AS text CHECK (mallory.spy('temporary'));
CREATE FUNCTION pg_temp.agree(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION mallory.agree(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR pg_temp.=== (FUNCTION = mallory.agree, LEFTARG = text, RIGHTARG = text);
CREATE COLLATION pg_temp.other FROM "C";
CREATE TEXT SEARCH CONFIGURATION pg_temp.parts (COPY = pg_catalog.simple);
RESET ROLE;
CREATE FUNCTION seen.attempt(command text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE command; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN regexp_replace(SQLERRM, '_[0-9]+', '_N'); END $$;
SET ROLE regress_outbox_mallory;
CREATE TABLE mallory.texts (type text PRIMARY KEY);
SELECT expression, seen.attempt(format('SELECT outbox.subscribe(''t'', filter => %L)', replace(expression, '$', 'type'))) AS filter,
       seen.attempt(format('SELECT outbox.register_type(''t'', %L)', replace(expression, '$', '(data->>0)'))) AS contract,
       seen.attempt(format('SELECT outbox.aggregate(''t'', ''{t}'', ''u'', ''mallory.reduce'', until => %L)', replace(expression, '$', '(state->>0)'))) AS until,
       seen.attempt(format('SELECT outbox.capture(''mallory.texts'', type => ''t'', condition => %L)', replace(expression, '$', 'new.type'))) AS condition
FROM unnest(ARRAY['pg_temp.mine($)', '$::pg_temp.short IS NOT NULL', '$::short = ''x''', '$::short[] IS NULL', '$ OPERATOR(pg_temp.===) ''x''',
                  '$ < ''x'' COLLATE pg_temp.other', 'to_tsvector(''pg_temp.parts'', $) IS NOT NULL', '$ IN (''x''::pg_temp.short)',
                  'CASE WHEN pg_temp.agree($, ''x'') THEN true END']) AS expression;
RESET ROLE;
SELECT * FROM seen.report('temporary') WHERE as_whom <> 'regress_outbox_mallory';

-- a member's temporary objects come last for what runs as the owner
SET ROLE regress_outbox_mallory;
CREATE TABLE mallory.lookup (wanted boolean);
INSERT INTO mallory.lookup VALUES (true);
CREATE FUNCTION mallory.looks() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT wanted FROM lookup); END $$;
SELECT outbox.subscribe('f_lookup', types => '{Plain}', filter => 'looks()');
SELECT outbox.register_type('Looked', 'looks()');
-- whatever name is theirs in the search_path
SELECT set_config('search_path', 'PG_TEMP, mallory, public, pg_temp', false);
SELECT outbox.subscribe('f_named', types => '{Plain}', filter => 'looks()');
RESET ROLE;
SET search_path = mallory, public;
SELECT outbox.publish('Plain') > 0 AS published;
CALL outbox.run();
CREATE TEMPORARY VIEW lookup AS SELECT false AS wanted;
SELECT count(*) FROM outbox.receive('f_lookup');
SELECT count(*) FROM outbox.receive('f_named');
SELECT outbox.publish('Looked') > 0 AS published;
DROP VIEW pg_temp.lookup;

SELECT count(*) FROM seen.ran WHERE as_whom <> 'regress_outbox_mallory';
DROP EXTENSION pg_outbox CASCADE;
RESET search_path;
DROP SCHEMA mallory, seen CASCADE;
DROP OWNED BY regress_outbox_mallory, regress_outbox_victim, regress_outbox_member;
DROP ROLE regress_outbox_mallory, regress_outbox_victim, regress_outbox_member;
