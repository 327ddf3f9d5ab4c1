-- snapshot() reads every row once, whatever the type of the key; it runs the
-- table's code as the table's owner; and no two rows have one key.
CREATE EXTENSION pg_outbox;

-- keys of all kinds, batch by batch: each row once, whatever the session's settings
CREATE TABLE verdict (n serial, kind text, rows bigint, events bigint, keys bigint);
CREATE PROCEDURE read_all(relation regclass, batch integer) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 100 LOOP
        -- a batch is read by another session's settings than the one before
        PERFORM set_config('extra_float_digits', CASE i % 2 WHEN 0 THEN '0' ELSE '3' END, false),
                set_config('datestyle', CASE i % 2 WHEN 0 THEN 'SQL, DMY' ELSE 'German' END, false),
                set_config('bytea_output', CASE i % 2 WHEN 0 THEN 'escape' ELSE 'hex' END, false),
                set_config('intervalstyle', CASE i % 2 WHEN 0 THEN 'sql_standard' ELSE 'iso_8601' END, false);
        EXIT WHEN outbox.snapshot(relation, batch) = 0;
        COMMIT;
    END LOOP;
    RESET extra_float_digits; RESET datestyle; RESET bytea_output; RESET intervalstyle;
END $$;
CREATE PROCEDURE try(kind text, value text, unique_class text DEFAULT '') LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT coalesce(max(id), 0) FROM outbox.event);
BEGIN
    EXECUTE format('CREATE TABLE k (n integer NOT NULL, k %s NOT NULL, m integer NOT NULL)', kind);
    EXECUTE format('CREATE UNIQUE INDEX k_key ON k (k %s, m)', unique_class);
    ALTER TABLE k REPLICA IDENTITY USING INDEX k_key;
    EXECUTE format('INSERT INTO k SELECT n, %s, n %% 2 FROM generate_series(1, 11) n', value);
    PERFORM outbox.capture('k');
    CALL read_all('k', 2);
    INSERT INTO verdict (kind, rows, events, keys)
        SELECT kind || ' ' || unique_class, (SELECT count(*) FROM k), count(*), count(DISTINCT data ->> 'n')
        FROM outbox.event WHERE id > before AND type = 'k.snapshot';
    DROP TABLE k;
    COMMIT;
END $$;
CREATE TYPE pair AS (a text, b bit(3));
CREATE DOMAIN positive AS integer CHECK (value > 0);
CREATE DOMAIN words AS text[] CHECK (cardinality(value) > 0);
CREATE TYPE mood AS ENUM ('z', 'y', 'x', 'w', 'v', 'u', 't', 's', 'r', 'q', 'p');
CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
SET client_min_messages = warning;
CALL try('integer', 'n');
CALL try('char(5)', 'chr(70 - n / 2)');
CALL try('char', 'chr(70 - n)');
CALL try('varchar(5)', 'chr(70 - n)');
CALL try('bit(4)', 'n::bit(4)');
CALL try('bit varying', 'n::bit(4)');
CALL try('real', 'n / 3.0');
CALL try('double precision', 'CASE n WHEN 1 THEN ''NaN''::float8 WHEN 2 THEN ''-Infinity'' WHEN 3 THEN -0.0 ELSE 1 + n * 2.220446049250313e-16 END');
CALL try('numeric', 'CASE n WHEN 1 THEN ''NaN'' WHEN 2 THEN 1e100 ELSE n / 7.0 END');
CALL try('integer[]', 'ARRAY[n / 2, n]');
CALL try('text[]', 'ARRAY[''a,"'' || n, NULL, ''\'']');
CALL try('words', 'ARRAY[''a b'', n::text]');
CALL try('jsonb', 'jsonb_build_object(''a'', n, ''b'', ''x'')');
CALL try('pair', 'row(''a"'' || n, B''101'')::pair');
CALL try('int4range', 'int4range(n, n + 5)');
CALL try('positive', 'n');
CALL try('mood', '(enum_range(NULL::mood))[n]');
CALL try('interval', 'n * interval ''1 month -1 day 00:00:01.5''');
CALL try('timestamptz', 'timestamptz ''2020-01-02 03:04:05.678901+00'' + n * interval ''1 day''');
CALL try('timestamp', 'CASE n WHEN 1 THEN ''infinity'' ELSE timestamp ''2020-01-02'' + n * interval ''1 day'' END');
CALL try('date', 'date ''2020-01-10'' + n');
CALL try('bytea', 'decode(md5(n::text), ''hex'')');
CALL try('uuid', 'md5(n::text)::uuid');
CALL try('"char"', 'chr(70 - n)::"char"');
CALL try('name', 'chr(70 - n)');
CALL try('money', 'n');
CALL try('inet', '(''10.1.0.'' || n || ''/8'')::inet');
CALL try('boolean', 'n % 3 = 0', ', n');
-- the index compares by other operators, or under another collation, than the column
CALL try('text', 'chr(64 + n) || CASE n % 2 WHEN 0 THEN ''a'' ELSE ''A'' END', 'text_pattern_ops');
CALL try('text', 'CASE n % 2 WHEN 0 THEN ''a'' ELSE ''A'' END || n / 2', 'DESC');
CALL try('text COLLATE folded', 'CASE n % 2 WHEN 0 THEN ''a'' ELSE ''A'' END || n / 2', 'COLLATE "C"');
SELECT kind, rows = events AND rows = keys AS each_once FROM verdict ORDER BY n;
SELECT count(*) FROM outbox.snapshot_progress WHERE last_key IS NOT NULL;

-- the key's columns are those with which the batch before ended
CREATE TABLE changes (id integer PRIMARY KEY, other text UNIQUE);
INSERT INTO changes SELECT n, n FROM generate_series(1, 5) n;
SELECT outbox.capture('changes');
SELECT outbox.snapshot('changes', 2);
ALTER TABLE changes DROP CONSTRAINT changes_pkey, ADD PRIMARY KEY (other);
SELECT outbox.snapshot('changes', 2);
SELECT last_key, key_columns FROM outbox.snapshot_progress WHERE relation = 'changes'::regclass;
-- a table that is dropped leaves no progress to another with its number
DROP TABLE changes;
SELECT count(*) FROM outbox.snapshot_progress;

-- rows below without a key are told, not skipped
CREATE TABLE base (id integer PRIMARY KEY);
CREATE TABLE child () INHERITS (base);
-- from 18 on no DDL leaves a child this way
UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 'child'::regclass AND attname = 'id';
INSERT INTO base VALUES (1);
INSERT INTO child VALUES (NULL), (2);
SELECT outbox.capture('base');
SELECT outbox.snapshot('base', 1);
DELETE FROM child WHERE id IS NULL;
SELECT outbox.snapshot('base', 1), outbox.snapshot('base', 1), outbox.snapshot('base', 1);

-- keys of several columns are told apart; those of one are their text
CREATE TABLE line (doc text, pos text, qty integer, PRIMARY KEY (doc, pos));
SELECT outbox.capture('line');
INSERT INTO line VALUES ('Nuts, mixed', '7', 10), ('Nuts', ' mixed,7', 5), ('a', 'b', 1), ('', '', 1),
    ('"', ',', 1), ('a"b', E'c\nd', 1), ('a\b', ' ', 1), ('"Nuts', '" mixed,7', 1), ('Nuts"", mixed', '7', 1);
SELECT key FROM outbox.event WHERE type = 'line.inserted' ORDER BY id;
SELECT count(DISTINCT key) FROM outbox.event WHERE type = 'line.inserted';
CREATE TABLE several (n integer, u uuid, t timestamptz, a integer[], c char(3), PRIMARY KEY (n, u, t, a, c));
SELECT outbox.capture('several');
INSERT INTO several VALUES (1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2020-01-01 00:00+00', '{1,2}', 'x');
UPDATE several SET a = '{3}';
SELECT key, headers ->> 'old_key' AS old_key FROM outbox.event WHERE source = 'public.several' ORDER BY id;
CREATE TABLE single (id text PRIMARY KEY);
SELECT outbox.capture('single');
INSERT INTO single VALUES ('a,"b');
SELECT key FROM outbox.event WHERE source = 'public.single';
SELECT outbox.snapshot('line');
SELECT count(*) FROM outbox.event i JOIN outbox.event s USING (key) WHERE i.type = 'line.inserted' AND s.type = 'line.snapshot';

-- code that the table's owner can plant runs as that owner, whoever calls
RESET client_min_messages;
CREATE ROLE regress_outbox_owner;
CREATE ROLE regress_outbox_caller SUPERUSER;
GRANT EXECUTE ON FUNCTION outbox.capture, outbox.snapshot TO regress_outbox_owner;
CREATE SCHEMA regress_outbox_snapshot AUTHORIZATION regress_outbox_owner;
CREATE TABLE ran (what text, as_whom name);
GRANT INSERT, SELECT ON ran TO PUBLIC;
SET ROLE regress_outbox_owner;
SET search_path = regress_outbox_snapshot, pg_catalog;
CREATE FUNCTION note(what text) RETURNS boolean LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS
    $$ BEGIN INSERT INTO public.ran SELECT what, current_user WHERE NOT EXISTS (SELECT FROM public.ran r WHERE r.what = note.what AND r.as_whom = current_user); RETURN true; END $$;
CREATE FUNCTION escape() RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    SET ROLE regress_outbox_caller;
    RETURN true;
EXCEPTION WHEN insufficient_privilege THEN
    RETURN regress_outbox_snapshot.note('refused: ' || SQLERRM);
END $$;
CREATE DOMAIN checked AS integer CHECK (note('domain')) CHECK (escape());
CREATE TYPE shade AS (number checked, label text);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE FUNCTION color_to_json(color) RETURNS json LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog AS
    $$ BEGIN PERFORM regress_outbox_snapshot.note('cast'); RETURN '"c"'; END $$;
CREATE CAST (color AS json) WITH FUNCTION color_to_json(color);
CREATE FUNCTION above(checked, checked) RETURNS boolean LANGUAGE sql AS $$ SELECT note('operator') $$;
CREATE OPERATOR > (FUNCTION = above, LEFTARG = checked, RIGHTARG = checked);
CREATE TABLE trap (k shade, d checked, c color, PRIMARY KEY (k, d));
INSERT INTO trap SELECT row(n, 'x')::shade, n, 'red' FROM generate_series(1, 4) n;
ALTER TABLE trap ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON trap USING (note('policy'));
DELETE FROM public.ran;
RESET ROLE;
SELECT outbox.capture('trap');
DELETE FROM public.ran;
SET ROLE regress_outbox_caller;
SELECT outbox.snapshot('trap', 2), outbox.snapshot('trap', 2), outbox.snapshot('trap', 2);
RESET ROLE;
SELECT * FROM public.ran ORDER BY what COLLATE "C", as_whom;
-- a policy that is forced on the owner would hide rows
ALTER TABLE trap FORCE ROW LEVEL SECURITY;
SELECT outbox.snapshot('trap', 2);
SELECT current_user = session_user AS myself, current_setting('row_security') AS row_security, current_setting('search_path') AS path;

RESET search_path;
SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA regress_outbox_snapshot CASCADE;
DROP TABLE verdict, base, child, line, several, single, ran CASCADE;
DROP PROCEDURE read_all, try;
DROP DOMAIN positive, words;
DROP TYPE pair, mood;
DROP COLLATION folded;
DROP OWNED BY regress_outbox_owner, regress_outbox_caller;
DROP ROLE regress_outbox_owner, regress_outbox_caller;
