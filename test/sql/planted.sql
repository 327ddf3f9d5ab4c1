-- Objects of an attacker in front of PostgreSQL's own are found by nothing of
-- ours: a function for every function of pg_catalog, an operator for every
-- operator, relations for ours and the catalogs', types for the built-in ones,
-- in a schema and among temporary objects.  Each raises an error when it is
-- called.
SET client_min_messages = warning;
CREATE ROLE regress_outbox_attacker;
CREATE EXTENSION pg_outbox;
SET outbox.partition_interval = '1s';
CREATE SCHEMA planted;
GRANT ALL ON SCHEMA planted TO regress_outbox_attacker;
GRANT USAGE ON SCHEMA planted TO PUBLIC;
DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO regress_outbox_attacker', current_database()); END $$;

-- the victim's objects
CREATE TABLE public.captured (id integer PRIMARY KEY, v text);
CREATE TABLE public.divided (id integer PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE FUNCTION public.careless(e outbox.event) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF e.type = 'Bad' THEN RAISE 'bad'; END IF;
END $$;
CREATE FUNCTION public.counts(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql SET search_path = pg_catalog AS
    $$ SELECT jsonb_build_object('n', coalesce((state->>'n')::integer, 0) + 1) $$;

SET ROLE regress_outbox_attacker;
CREATE FUNCTION planted.spring(what text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'trap % as %', what, current_user; END $$;
GRANT EXECUTE ON FUNCTION planted.spring TO PUBLIC;
DO $$
DECLARE
    f record;
    made integer := 0;
BEGIN
    -- functions and aggregates, but for types that only C can take
    FOR f IN
        SELECT p.proname, p.oid, pg_get_function_identity_arguments(p.oid) AS arguments,
               CASE WHEN t.typtype = 'p' AND t.typname !~ '^(any|record|void)' THEN 'boolean' ELSE format_type(p.prorettype, NULL) END AS result
        FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.provariadic = 0
          AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) AS a (oid) JOIN pg_type t USING (oid)
                          WHERE t.typtype = 'p' AND t.typname !~ '^any(element|array|compatible|compatiblearray)$')
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION planted.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L', f.proname,
                           (SELECT string_agg(format_type(a.oid, NULL), ', ' ORDER BY a.n)
                            FROM pg_proc p, unnest(p.proargtypes) WITH ORDINALITY AS a (oid, n) WHERE p.oid = f.oid),
                           f.result, format('BEGIN PERFORM planted.spring(%L); RETURN NULL; END', f.proname));
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    IF made < 2000 THEN RAISE EXCEPTION 'only % functions', made; END IF;

    made := 0;
    FOR f IN
        SELECT o.oprname, o.oprleft, o.oprright, o.oid FROM pg_operator o
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprname <> '=>'
    LOOP
        BEGIN
            EXECUTE format('CREATE FUNCTION planted.operator_%s(%s) RETURNS boolean LANGUAGE plpgsql AS %L', f.oid,
                           concat_ws(', ', CASE WHEN f.oprleft <> 0 THEN format_type(f.oprleft, NULL) END, format_type(f.oprright, NULL)),
                           format('BEGIN RETURN planted.spring(%L); END', f.oprname));
            EXECUTE format('CREATE OPERATOR planted.%s (FUNCTION = planted.operator_%s, %s RIGHTARG = %s)', f.oprname, f.oid,
                           CASE WHEN f.oprleft <> 0 THEN format('LEFTARG = %s, ', format_type(f.oprleft, NULL)) END, format_type(f.oprright, NULL));
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
    IF made < 700 THEN RAISE EXCEPTION 'only % operators', made; END IF;

    FOR f IN
        SELECT c.relname, n.schema FROM pg_class c, unnest('{planted,pg_temp}'::text[]) AS n (schema)
        WHERE c.relnamespace IN ('outbox'::regnamespace, 'pg_catalog'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
    LOOP
        EXECUTE format('CREATE VIEW %I.%I AS SELECT planted.spring(%L)', f.schema, f.relname, 'relation ' || f.relname);
    END LOOP;
    FOR f IN
        SELECT t.typname, n.schema FROM pg_catalog.pg_type t, unnest('{planted,pg_temp}'::text[]) AS n (schema)
        WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typcategory <> 'A'
    LOOP
        EXECUTE format('CREATE DOMAIN %I.%I AS pg_catalog.text CHECK (planted.spring(%L))', f.schema, f.typname, 'type ' || f.typname);
    END LOOP;
END $$;
RESET ROLE;
-- the traps work
SET search_path = planted, pg_temp, pg_catalog, public;
SELECT count(*) FROM pg_class;
SELECT lower('X'::pg_catalog.text);
SELECT 1 = 1;
SELECT '1'::jsonb;

-- everything of ours, as a superuser who has all that in front
SELECT outbox.register_type('Checked', 'data OPERATOR(pg_catalog.<>) ''1''::pg_catalog.jsonb', 'x');
SELECT type, contract, description FROM outbox.event_type;
SELECT outbox.capture('public.captured', type => 'Captured', condition => 'new.id OPERATOR(pg_catalog.>) 0', key => '{id}', columns => '{id}');
SELECT outbox.capture('public.divided');
CREATE TABLE public.divided_low PARTITION OF public.divided FOR VALUES FROM (0) TO (10);
CREATE TABLE public.divided_high PARTITION OF public.divided FOR VALUES FROM (10) TO (20);
SELECT outbox.subscribe('function', handler => 'public.careless', max_attempts => 2, backoff => '0', filter => 'type OPERATOR(pg_catalog.<>) ''Not''');
SELECT outbox.subscribe('lanes', handler => 'public.careless', types => '{Nice*}', concurrency => 3);
SELECT outbox.subscribe('channel', channel => 'c', payload => 'event');
SELECT outbox.subscribe('pulled');
SELECT outbox.aggregate('counted', '{Nice}', 'Counted', 'public.counts', max_events => 2, filter => 'key IS NOT NULL', until => 'state OPERATOR(pg_catalog.=) ''0''::pg_catalog.jsonb');
CALL outbox.run();
SELECT outbox.publish('Nice', key => 'k') OPERATOR(pg_catalog.>) 0::pg_catalog.int8 AS emitted;
SELECT outbox.publish('Nice', key => 'k', idempotency_key => 'i') OPERATOR(pg_catalog.>) 0::pg_catalog.int8 AS emitted;
SELECT outbox.publish('Bad', key => 'bad', headers => '{"a": 1}') OPERATOR(pg_catalog.>) 0::pg_catalog.int8 AS emitted;
SELECT outbox.publish_many('[{"type": "Nice"}, {"type": "Not", "key": "x"}, {"type": "Checked", "data": {}}]');
SELECT outbox.publish('Checked', '1');
INSERT INTO public.captured VALUES (7, 'x');
UPDATE public.captured SET id = 8;
DELETE FROM public.captured;
INSERT INTO public.divided VALUES (1, 'x');
UPDATE public.divided SET id = 11;
TRUNCATE public.divided;
ALTER TABLE public.captured RENAME COLUMN v TO w;
ALTER TABLE public.captured ADD COLUMN x integer;
INSERT INTO public.divided VALUES (2, 'x');
SELECT outbox.snapshot('public.divided');
CALL outbox.run();
SELECT relation, name, operations, type, condition, key, columns FROM outbox.capture_rule ORDER BY 1;
SELECT outbox.head(), outbox.oldest(), outbox.position_of(1), outbox.generation();
SELECT "position", type, key FROM outbox.read(0, 3);
SELECT name, kind, state, delivered, dead FROM outbox.status ORDER BY name;
SELECT subscription, type, error FROM outbox.dead_letter;
SELECT name, key, state, events FROM outbox.aggregation;
SELECT pid FROM outbox.worker;
SELECT pg_catalog.count(*) OPERATOR(pg_catalog.>) 50::pg_catalog.int8 AS there FROM outbox.metrics;
SELECT pg_catalog.count(outbox.to_cloudevent(e)) FROM outbox.event e;
SELECT pg_catalog.count(*) FROM outbox.debezium_outbox;
SELECT pg_catalog.count(*) FROM outbox.trace('1');
SELECT pg_catalog.length(outbox.trace_text('1')) OPERATOR(pg_catalog.>) 0 AS text, pg_catalog.length(outbox.trace_mermaid('1')) OPERATOR(pg_catalog.>) 0 AS mermaid,
       pg_catalog.length(outbox.why_not_delivered(1)) OPERATOR(pg_catalog.>) 0 AS why, outbox.duration_text('1 s');
SELECT pg_catalog.count(*) FROM outbox.receive('pulled', 3, '1 h');
SELECT outbox.ack('pulled', 1, 1);
SELECT outbox.nack('pulled', 1, 2, 'no');
SELECT outbox.once('consumer', 1), outbox.once('consumer', 1);
SELECT outbox.redrive('function');
SELECT outbox.discard('channel');
SELECT outbox.alter_subscription('lanes', concurrency => 2, filter => 'true', handler => 'public.careless', types => '{*}');
SELECT outbox.seek('lanes', to_position => 1);
SELECT outbox.seek('channel', to_time => '2000-01-01');
SELECT outbox.pause('channel');
SELECT outbox.resume('channel');
SELECT outbox.wait('function', '0');
CALL outbox.run(5);
SELECT outbox.current_position(), outbox.current_attempt(), outbox.current_subscription(), outbox.is_replay();
SELECT outbox.unregister_type('Checked');
SELECT outbox.uncapture('public.captured', 'Captured'), outbox.uncapture('public.divided');
SELECT outbox.unsubscribe(name) FROM outbox.subscription;
SET outbox.retention = 0;
SELECT pg_catalog.pg_sleep(2.1);
CALL outbox.run();
SELECT outbox.apply_retention() OPERATOR(pg_catalog.>=) 0 AS ran;
DROP EXTENSION pg_outbox CASCADE;
-- nor while it is created
CREATE EXTENSION pg_outbox;
SELECT name FROM outbox.status;
DROP EXTENSION pg_outbox;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA planted CASCADE;
DISCARD TEMP;
DROP TABLE captured, divided;
DROP OWNED BY regress_outbox_attacker;
DROP ROLE regress_outbox_attacker;
