-- data is byte for byte what to_jsonb(row) gives: random tables of all types,
-- random names, random rows, from a fixed seed.
CREATE EXTENSION pg_outbox;
SET client_min_messages = warning;
SET timezone = 'America/New_York';
CREATE SCHEMA encoder;
SET search_path = encoder;

CREATE TYPE mood AS ENUM ('sad', 'so so', 'häppy "quoted"');
CREATE TYPE pair AS (left_one integer, "Right One" text, inner_one jsonb);
CREATE TYPE tagged AS ENUM ('x', 'y');
CREATE FUNCTION tagged_to_json(tagged) RETURNS json LANGUAGE sql IMMUTABLE
    AS $$ SELECT json_build_object('tag', $1::text, 'n', 1.50) $$;
CREATE CAST (tagged AS json) WITH FUNCTION tagged_to_json(tagged);
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE DOMAIN texts AS text[];
CREATE DOMAIN pairs AS pair;
CREATE DOMAIN document AS jsonb;
CREATE DOMAIN documents AS document;
CREATE TYPE nested AS (p pair, d pairs, m mood[], n numeric[]);

-- How to make a random value of a type, as SQL.
CREATE TABLE generator (type text, expression text);
INSERT INTO generator VALUES
    ('smallint', '(random() * 65535 - 32768)::integer::smallint'),
    ('integer', '(array[0, 1, -1, 9999, 10000, -10001, 99999999, 100000000, 2147483647, -2147483648, (random() * 1e9)::integer])[1 + (random() * 10)::integer]'),
    ('bigint', '(array[0, 10000, -10000, 100000000, 1000000000000, 10000000000000000, 9223372036854775807, -9223372036854775808, (random() * 1e18)::bigint])[1 + (random() * 8)::integer]'),
    ('numeric', '(array[0, 0.00, -0.5, 1e100, -1e-100, 123456789.987654321, 10000, 0.0001, ''NaN'', (random() * 1e6)::numeric, 1 / 3.0, 10000000000000000000000.0000])[1 + (random() * 11)::integer]'),
    ('numeric(12,2)', 'random() * 1e9'),
    ('numeric(1000,500)', 'power((random() * 10)::numeric, (random() * 100)::integer)'),
    ('real', '(array[0, ''-0'', 1e30, -1e-30, ''NaN'', ''Infinity'', ''-Infinity'', random()::real, 16777217])[1 + (random() * 8)::integer]'),
    ('double precision', '(array[0, ''-0'', 1e300, 1e-300, ''NaN'', ''Infinity'', ''-Infinity'', random(), 1e15, 123456789012345678])[1 + (random() * 9)::integer]'),
    ('boolean', 'random() < 0.5'),
    ('text', '(array['''', ''abc'', E''quo"te \\ back\nline\ttab'', ''ünïcödé €'', repeat(md5(random()::text), (random() * 300)::integer)])[1 + (random() * 4)::integer]'),
    ('varchar(20)', 'left(md5(random()::text), (random() * 20)::integer)'),
    ('char(12)', 'left(md5(random()::text), (random() * 12)::integer)'),
    ('"char"', 'chr(65 + (random() * 25)::integer)'),
    ('name', 'md5(random()::text)'),
    ('bytea', 'decode(md5(random()::text), ''hex'')'),
    ('uuid', 'md5(random()::text)::uuid'),
    ('date', '(array[''infinity'', ''-infinity'', ''0044-03-15 BC'', ''12345-01-01'', date ''2024-02-29'' + (random() * 10000)::integer])[1 + (random() * 4)::integer]'),
    ('timestamp', '(array[''infinity'', ''-infinity'', ''0044-03-15 12:00 BC'', ''2024-02-29 12:00:00.1234'', timestamp ''2024-02-29'' + random() * interval ''1000 days''])[1 + (random() * 4)::integer]'),
    ('timestamptz', '(array[''infinity'', ''-infinity'', ''0044-03-15 12:00 BC'', ''1850-01-01 00:00+00'', timestamptz ''2024-02-29 00:00+00'' + random() * interval ''1000 days''])[1 + (random() * 4)::integer]'),
    ('timestamptz(0)', 'timestamptz ''2024-02-29 00:00+00'' + random() * interval ''1000 days'''),
    ('time', 'time ''00:00'' + random() * interval ''1 day'''),
    ('timetz', '(time ''00:00'' + random() * interval ''1 day'')::timetz'),
    ('interval', 'random() * interval ''1000 days 3 hours'''),
    ('inet', '''10.0.0.0/8''::inet + (random() * 1e6)::integer'),
    ('cidr', '''10.1.0.0/16'''),
    ('macaddr', '''08:00:2b:01:02:03'''),
    ('bit(5)', '(random() * 31)::integer::bit(5)'),
    ('varbit', '''10110'''),
    ('money', '(random() * 1000)::numeric::money'),
    ('json', '(array[''{"b": 1, "a": [1, 2.50, {"x": null}], "a": "again"}'', ''"scalar \u00e4"'', ''12.50'', ''1e3'', ''null'', ''true'', ''[]'', ''{}'', '' [ 1 , [ 2 , { "k" : false } ] ] ''])[1 + (random() * 8)::integer]::json'),
    ('jsonb', '(array[''{"b": 1, "a": [1, 2.50, {"x": null}], "a": "again"}'', ''"scalar \u00e4"'', ''12.50'', ''1e3'', ''null'', ''true'', ''false'', ''[]'', ''{}'', ''[1, [2, {"k": false}], "z"]''])[1 + (random() * 9)::integer]::jsonb'),
    ('oid', '(random() * 2e9)::bigint::oid'),
    ('regtype', '(array[''integer'', ''encoder.mood''])[1 + (random() * 1)::integer]::regtype'),
    ('pg_lsn', '''16/B374D848'''),
    ('tsvector', 'to_tsvector(''simple'', md5(random()::text) || '' and more'')'),
    ('int4range', 'int4range((random() * 100)::integer, 101 + (random() * 100)::integer, ''[]'')'),
    ('tstzrange', 'tstzrange(timestamptz ''2024-02-29 00:00+00'' + random() * interval ''1 day'', ''infinity'')'),
    ('point', 'point(random(), 1)'),
    ('polygon', '''((0,0),(1,1),(2,0.5))'''),
    ('integer[]', '(array[''{}'', ''{1,NULL,3}'', ''[0:1][2:3]={{1,2},{3,10000}}''])[1 + (random() * 2)::integer]::integer[]'),
    ('bigint[]', 'array(select (random() * 1e10)::bigint from generate_series(1, (random() * 100)::integer))'),
    ('date[]', 'array_fill(date ''2024-02-29'', array[2, 3, 4])'),
    ('varchar[]', 'array[array[''a'', null], array[''bcd'', '''']]'),
    ('uuid[]', 'array[md5(random()::text)::uuid]'),
    ('boolean[]', 'array_fill(true, array[70])'),
    ('json[]', 'array[''{"z": [1], "z": 2}'', ''"s"'', null]::json[]'),
    ('positive[]', 'array[1, 2, null]::positive[]'),
    ('texts[]', 'array[array[''x'']::texts, null]'),
    ('int4range[]', 'array[int4range(1, 5), ''empty'']'),
    ('int2vector', '''1 2 3'''),
    ('oidvector', '''''::oidvector'),
    ('text[]', 'array[md5(random()::text), null, ''a,"b''] '),
    ('numeric[]', 'array[random()::numeric, ''NaN'', 0]'),
    ('timestamptz[]', 'array[timestamptz ''2024-02-29 00:00+00'', ''infinity'']'),
    ('jsonb[]', 'array[''{"z": [1]}'', ''2'', null]::jsonb[]'),
    ('mood', '(enum_range(null::mood))[1 + (random() * 2)::integer]'),
    ('mood[]', 'array[''sad'', null]::mood[]'),
    ('tagged', '(enum_range(null::tagged))[1 + (random() * 1)::integer]'),
    ('tagged[]', 'array[''x'', ''y'', null]::tagged[]'),
    ('pair', 'row((random() * 100)::integer, ''text "q"'', ''{"deep": [1.0]}'')::pair'),
    ('pair[]', 'array[row(1, null, ''3'')::pair, null]'),
    ('nested', 'row(row(1, ''x'', null), null, array[''sad'']::mood[], array[1.10])::nested'),
    ('positive', '1 + (random() * 100)::integer'),
    ('texts', 'array[''one'', null]'),
    ('pairs', 'row(5, ''domain'', ''[]'')::pair'),
    ('document', '(array[''{"domain": 1}'', ''7''])[1 + (random() * 1)::integer]::jsonb'),
    ('documents', '''{"domain": {"of": "domain"}}''::jsonb');

-- A table of random columns; about a third of the values are NULL.
CREATE FUNCTION make_table(name text, columns integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    definition text := 'id serial PRIMARY KEY';
    expressions text := 'DEFAULT';
    g record;
    number integer := 0;
BEGIN
    WHILE number < columns LOOP
        FOR g IN SELECT * FROM generator ORDER BY random() LIMIT columns - number LOOP
            number := number + 1;
            definition := definition || format(', %I %s',
                (ARRAY['c', 'Column ', 'spalte_ä', '"', 'a rather long column name ', 'été €', '_'])
                    [1 + (random() * 6)::integer] || number, g.type);
            expressions := expressions ||
                format(', CASE WHEN random() < 0.7 THEN (%s)::%s END', g.expression, g.type);
        END LOOP;
    END LOOP;
    EXECUTE format('CREATE TABLE %I (%s)', name, definition);
    RETURN expressions;
END
$$;

CREATE TABLE verdict (table_name text, operation text, rows bigint, equal bigint, same_image bigint);

CREATE FUNCTION check_table(name text, columns integer, rows integer) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    expressions text := make_table(name, columns);
    victim text;
BEGIN
    PERFORM outbox.capture(quote_ident(name)::regclass, old_values => 'all');
    FOR i IN 1 .. rows LOOP
        EXECUTE format('INSERT INTO %I VALUES (%s)', name, expressions);
    END LOOP;
    EXECUTE format('CREATE TABLE %I AS SELECT id, to_jsonb(t) AS row FROM %I t', name || '_before', name);

    -- a rewrite of the table's shape, then an update of every row
    SELECT attname INTO victim FROM pg_attribute
    WHERE attrelid = quote_ident(name)::regclass AND attnum > 1 AND NOT attisdropped ORDER BY random() LIMIT 1;
    EXECUTE format('ALTER TABLE %I DROP COLUMN %I', name, victim);
    EXECUTE format('ALTER TABLE %I ADD COLUMN added integer DEFAULT 7, ADD COLUMN computed text GENERATED ALWAYS AS (id || ''!'') STORED', name);
    EXECUTE format('CREATE TABLE %I AS SELECT id, to_jsonb(t) AS row FROM %I t', name || '_between', name);
    EXECUTE format('UPDATE %I SET added = -id', name);
    EXECUTE format('CREATE TABLE %I AS SELECT id, to_jsonb(t) AS row FROM %I t', name || '_after', name);
    EXECUTE format('DELETE FROM %I', name);

    EXECUTE format($q$
        INSERT INTO verdict
        SELECT %L, e.operation, count(*),
               count(*) FILTER (WHERE e.data = x.data AND e.old IS NOT DISTINCT FROM x.old),
               count(*) FILTER (WHERE record_image_eq(row(e.data, e.old), row(x.data, x.old)))
        FROM (SELECT 'insert', id, row, NULL::jsonb FROM %I
              UNION ALL
              SELECT 'update', a.id, a.row, b.row FROM %I a JOIN %I b USING (id)
              UNION ALL
              SELECT 'delete', id, row, NULL FROM %I) AS x (operation, id, data, old)
        LEFT JOIN outbox.event e
            ON e.source = 'encoder.' || %L AND e.operation = x.operation AND e.key = x.id::text
        GROUP BY e.operation $q$,
        name, name || '_before', name || '_after', name || '_between', name || '_after', name);
END
$$;

SELECT setseed(0.42) \g /dev/null

-- each type for itself, then many together
SELECT count(check_table('table ' || n, 1 + n % 5, 12)) FROM generate_series(1, 40) n;
SELECT count(check_table('wide ' || n, 30 + 7 * n, 8)) FROM generate_series(1, 10) n;

SELECT operation, count(*) AS tables, sum(rows) AS rows, sum(equal) AS equal, sum(same_image) AS same_image
FROM verdict GROUP BY operation ORDER BY operation;
SELECT * FROM verdict WHERE equal <> rows OR same_image <> rows;

-- which types were not covered
SELECT type FROM generator
WHERE NOT EXISTS (
    SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE a.atttypid = generator.type::regtype AND c.relkind = 'r'
      AND c.relnamespace = 'encoder'::regnamespace
      AND (c.relname LIKE 'table %' OR c.relname LIKE 'wide %'));

-- The objects work as jsonb: containment, paths, an index.
CREATE TABLE indexed AS SELECT data FROM outbox.event;
CREATE INDEX ON indexed USING gin (data);
SET enable_seqscan = off;
SELECT count(*) > 0 AS found,
       count(*) = count(*) FILTER (WHERE data ->> 'added' = '7') AS all_right
FROM indexed WHERE data @> '{"added": 7}';
RESET enable_seqscan;
SELECT count(*) = count(*) FILTER (WHERE data::text::jsonb = data) AS round_trip FROM indexed;

-- As many columns as a table can have.
DO $$
BEGIN
    EXECUTE 'CREATE TABLE widest (' ||
        (SELECT string_agg(format('c%s %s', n, CASE n % 3 WHEN 0 THEN 'integer' WHEN 1 THEN 'text' ELSE 'boolean' END), ', ')
         FROM generate_series(1, 1600) n) || ')';
    PERFORM outbox.capture('widest', key => '{c3}');
    EXECUTE 'INSERT INTO widest (c1, c3, c1600, c1599) VALUES (''a'', 3, ''z'', 4), (null, 6, null, null)';
    EXECUTE 'UPDATE widest SET c2 = true, c1000 = ''changed'' WHERE c3 = 6';
END
$$;
SELECT count(*) AS events, count(*) FILTER (WHERE record_image_eq(row(e.data), row(to_jsonb(w)))) AS same_image
FROM outbox.event e JOIN widest w ON w.c3::text = e.key
WHERE e.source = 'encoder.widest' AND (e.operation = 'update' OR e.key = '3');
SELECT old FROM outbox.event WHERE source = 'encoder.widest' AND operation = 'update';

-- No columns at all.
CREATE TABLE empty ();
SELECT outbox.capture('empty', key => '{}');
INSERT INTO empty DEFAULT VALUES;
SELECT operation, key, data FROM outbox.event WHERE source = 'encoder.empty';

-- Settings that to_jsonb() follows.
CREATE TABLE settings (id integer, at timestamptz, f double precision, b bytea, i interval);
SELECT outbox.capture('settings', key => '{}');
SET timezone = 'Asia/Kolkata';
SET datestyle = 'SQL, DMY';
SET extra_float_digits = -5;
SET bytea_output = 'escape';
SET intervalstyle = 'iso_8601';
INSERT INTO settings VALUES (1, '2024-02-29 00:00+00', 1 / 3.0, '\xdeadbeef', '1 day 2 hours');
SELECT data, record_image_eq(row(data), row(to_jsonb(s))) AS same_image
FROM outbox.event, settings s WHERE source = 'encoder.settings';

-- A time that was just written in one zone is written anew in another.
INSERT INTO settings VALUES (2, '2024-02-29 00:00+00'), (3, '2024-02-29 00:00+00'), (4, 'infinity');
SET timezone = 'America/New_York';
INSERT INTO settings VALUES (5, '2024-02-29 00:00+00'), (6, '-infinity'), (7, '2024-02-29 00:00+00');
SELECT data->>'id' AS id, data->>'at' AS at
FROM outbox.event WHERE source = 'encoder.settings' ORDER BY outbox.event.id;

DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA encoder CASCADE;
