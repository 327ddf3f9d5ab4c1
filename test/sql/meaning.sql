-- What a contract, a filter, a condition or an until means does not depend on the
-- settings of the session that reads it: neither of its author's nor of others'.
SET client_min_messages = warning;
CREATE EXTENSION pg_outbox;
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE command; RETURN 'done'; EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END $$;
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION reduce(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT $2.data $$;
CREATE TABLE orders (id integer PRIMARY KEY, code text);
SET DateStyle = 'ISO, MDY';

-- contracts: read in the sessions of producers
SELECT outbox.register_type('Backslash', $$ data->>'n' ~ '^\d+$' $$);
SELECT outbox.register_type('List', $$ data->>'n' = ANY ('{1,NULL}') $$);
-- written in a session with other settings; 19 knows only standard strings
SELECT current_setting('server_version_num')::integer < 190000 AS escapes \gset
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'sql_standard';
SET extra_float_digits = -15;
\if :escapes
SET standard_conforming_strings = off;
SET escape_string_warning = off;
\endif
SET transform_null_equals = on;
SET array_nulls = off;
SELECT outbox.register_type('Day', $$ '02/01/2026'::date + (data->>'n')::integer = make_date(2026, 1, 3) $$);
SELECT outbox.register_type('Interval', $$ make_interval(hours => (data->>'n')::integer) = '-1 days +26:00:00'::interval $$);
SELECT outbox.register_type('Float', $$ (data->>'n')::double precision = 1.23456789012345::double precision $$);
SELECT outbox.register_type('Escaped', $$ data->>'n' = 'a\b' $$);
SELECT type, expression FROM outbox.registered_type ORDER BY type COLLATE "C";
RESET ALL;
SET client_min_messages = warning;
CREATE FUNCTION published() RETURNS TABLE (type text, data jsonb, outcome text) LANGUAGE sql AS $$
    SELECT v.type, v.data, attempt(format('SELECT outbox.publish(%L, %L)', v.type, v.data))
    FROM (VALUES ('Backslash', '{"n": "12"}'::jsonb), ('Backslash', '{"n": "dd"}'), ('List', '{"n": "1"}'), ('List', '{"n": "NULL"}'),
                 ('Day', '{"n": 1}'), ('Interval', '{"n": 2}'), ('Float', '{"n": 1.23456789012345}'), ('Escaped', jsonb_build_object('n', 'a' || chr(92) || 'b'))) AS v (type, data)
$$;
SELECT * FROM published();
\c
SET client_min_messages = warning;
\if :escapes
SET standard_conforming_strings = off;
SET escape_string_warning = off;
\endif
SET transform_null_equals = on;
SET array_nulls = off;
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'sql_standard';
SELECT * FROM published();

-- filters and until, in a session of their owner; conditions, when the trigger is made
SELECT outbox.subscribe('filtered', handler => 'handle', types => '{Backslash}', filter => $$data->>'n' ~ '^\d+$'$$);
SELECT filter FROM outbox.subscription WHERE name = 'filtered';
SELECT outbox.subscribe('never', handler => 'handle', types => '{Backslash}', filter => 'key = NULL');
SELECT outbox.aggregate('folded', '{Backslash}', 'Folded', 'reduce', until => $$state->>'n' ~ '^\d+$'$$);
SELECT outbox.capture('orders', condition => $$new.code ~ '^\d+$'$$);
INSERT INTO orders VALUES (1, '12'), (2, 'dd');
SELECT outbox.publish('Backslash', '{"n": "34"}', key => 'k') > 0 AS published;
CALL outbox.run();
SELECT name, delivered FROM outbox.status ORDER BY name;
SELECT type, key, data FROM outbox.event WHERE type IN ('orders.inserted', 'Folded') ORDER BY id;

-- nor does what the extension is made of depend on those of the session that makes it
\c
SET client_min_messages = warning;
CREATE FUNCTION made(OUT parts text, OUT number bigint) LANGUAGE sql AS $$
SELECT md5(string_agg(part, E'\n' ORDER BY part COLLATE "C")) AS parts, count(*) AS number
FROM (SELECT pg_get_viewdef(oid) AS part FROM pg_class WHERE relnamespace = 'outbox'::regnamespace AND relkind = 'v'
      UNION ALL SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef d JOIN pg_class c ON c.oid = adrelid WHERE relnamespace = 'outbox'::regnamespace
      UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'outbox'::regnamespace AND conname !~ '_p[0-9]'
        AND conrelid NOT IN (SELECT oid FROM pg_class WHERE relname ~ '_p[0-9]')
      UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'outbox'::regnamespace) p $$;
SELECT parts, number FROM made() \gset
DROP EXTENSION pg_outbox CASCADE;
\if :escapes
SET standard_conforming_strings = off;
SET escape_string_warning = off;
\endif
SET transform_null_equals = on;
SET array_nulls = off;
SET quote_all_identifiers = on;
SET check_function_bodies = off;
CREATE EXTENSION pg_outbox;
RESET ALL;
SET client_min_messages = warning;
SELECT parts = :'parts' AND number = :number AS same FROM made();
DROP FUNCTION made;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE orders;
DROP FUNCTION attempt, published;
