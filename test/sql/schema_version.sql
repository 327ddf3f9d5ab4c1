-- Which columns an event's data was made of: outbox.schema_version and the
-- header schema_version, which is absent for version 1.
CREATE EXTENSION pg_outbox;
CREATE VIEW version AS
SELECT source, version, (SELECT string_agg((c ->> 'name') || ' ' || (c ->> 'type'), ', ' ORDER BY n)
                         FROM jsonb_array_elements(columns) WITH ORDINALITY AS c (c, n)) AS columns
FROM outbox.schema_version ORDER BY 1, 2;
CREATE FUNCTION last_events(integer) RETURNS TABLE (type text, source text, data jsonb, headers jsonb)
    LANGUAGE sql STABLE AS $$
    SELECT type, source, data, headers FROM (SELECT * FROM outbox.event ORDER BY id DESC LIMIT $1) e ORDER BY id
$$;

CREATE TYPE mood AS ENUM ('fine');
CREATE TABLE thing (id integer PRIMARY KEY, gone text, name varchar(20), mood mood, "char" "char");
ALTER TABLE thing DROP COLUMN gone;
SELECT * FROM version;
SELECT outbox.capture('thing');
SELECT outbox.capture('thing', type => 'Inserted', operations => '{insert}', columns => '{id}');
INSERT INTO thing VALUES (1);
SELECT * FROM last_events(2);
SELECT * FROM version;

-- what leaves the columns alone makes no version
ALTER TABLE thing SET (fillfactor = 90), ALTER COLUMN mood SET DEFAULT 'fine';
ALTER TABLE thing ALTER COLUMN mood DROP DEFAULT, ALTER COLUMN id SET STATISTICS 10;
ALTER TABLE thing ADD CONSTRAINT positive CHECK (id > 0);
CREATE INDEX ON thing (name);
SELECT count(*) FROM outbox.schema_version;

-- what changes them does, for all rules of the table
ALTER TABLE thing ADD COLUMN price numeric(9, 2)[], DROP COLUMN "char";
INSERT INTO thing (id) VALUES (2);
SELECT * FROM last_events(2);
ALTER TABLE thing RENAME COLUMN name TO title;
ALTER TABLE thing ALTER COLUMN title TYPE text;
UPDATE thing SET id = 3 WHERE id = 2;
DELETE FROM thing WHERE id = 3;
TRUNCATE thing;
SELECT * FROM last_events(3);
SELECT * FROM version;

-- a transaction that goes back
BEGIN;
INSERT INTO thing (id) VALUES (5);
ALTER TABLE thing ADD COLUMN brief integer;
INSERT INTO thing (id) VALUES (6);
SAVEPOINT s;
ALTER TABLE thing DROP COLUMN brief;
INSERT INTO thing (id) VALUES (7);
ROLLBACK TO s;
INSERT INTO thing (id) VALUES (8);
SELECT * FROM last_events(8) WHERE type <> 'Inserted';
SELECT version FROM version;
ROLLBACK;
INSERT INTO thing (id) VALUES (5);
SELECT * FROM last_events(1);
SELECT max(version) FROM version;

-- a column that goes with its type; a type of the search path
CREATE SCHEMA regress_outbox_types;
CREATE DOMAIN regress_outbox_types.short AS text;
SET search_path = regress_outbox_types, public;
ALTER TABLE thing ADD COLUMN s short;
RESET search_path;
DROP SCHEMA regress_outbox_types CASCADE;
SELECT * FROM version WHERE version > 4;

-- names: a table goes on counting under its new one
ALTER TABLE thing RENAME TO object;
INSERT INTO object (id) VALUES (10);
CREATE SCHEMA regress_outbox_moved;
ALTER TABLE object SET SCHEMA regress_outbox_moved;
ALTER SCHEMA regress_outbox_moved RENAME TO regress_outbox_there;
INSERT INTO regress_outbox_there.object (id) VALUES (11);
SELECT * FROM last_events(2);
ALTER TABLE regress_outbox_there.object ADD COLUMN u integer;
ALTER TABLE regress_outbox_there.object SET SCHEMA public;
ALTER TABLE object RENAME TO thing;
SELECT * FROM version WHERE version > 5 ORDER BY version, source;
-- back where it was, though that name has other columns under the same number
ALTER TABLE thing DROP COLUMN u;
ALTER TABLE thing SET SCHEMA regress_outbox_there;
ALTER TABLE regress_outbox_there.thing RENAME TO object;
INSERT INTO regress_outbox_there.object (id) VALUES (12);
SELECT * FROM last_events(1);
SELECT * FROM version WHERE version > 6 ORDER BY version, source;
DROP SCHEMA regress_outbox_there CASCADE;

-- tables that change places: a number never stands for two sets of columns
CREATE TABLE left_one (id integer PRIMARY KEY, l text);
CREATE TABLE right_one (id integer PRIMARY KEY, r text);
SELECT outbox.capture('left_one'), outbox.capture('right_one');
BEGIN;
ALTER TABLE left_one RENAME TO middle;
ALTER TABLE right_one RENAME TO left_one;
ALTER TABLE middle RENAME TO right_one;
COMMIT;
INSERT INTO left_one VALUES (1, 'r');
INSERT INTO right_one VALUES (1, 'l');
SELECT * FROM last_events(2);
SELECT * FROM version WHERE source LIKE 'public.%_one';

-- what is dropped is remembered, a new table of the name goes on
DROP TABLE left_one;
CREATE TABLE left_one (id integer PRIMARY KEY, r text);
SELECT outbox.capture('left_one');
INSERT INTO left_one VALUES (1, 'the same columns');
DROP TABLE left_one;
CREATE TABLE left_one (id integer PRIMARY KEY, other text);
SELECT outbox.capture('left_one');
INSERT INTO left_one VALUES (1, 'others');
SELECT * FROM last_events(2);
-- and so does one that was not captured for a while
SELECT outbox.uncapture('left_one');
ALTER TABLE left_one ADD COLUMN meanwhile integer;
SELECT outbox.capture('left_one');
SELECT * FROM version WHERE source = 'public.left_one';

-- the version is that of the rule's table, also for rows of those below
CREATE TABLE part (id integer, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_a (region text NOT NULL, id integer NOT NULL);
ALTER TABLE part ATTACH PARTITION part_a FOR VALUES IN ('a');
SELECT outbox.capture('part'), outbox.capture('part_a', name => 'leaf');
INSERT INTO part VALUES (1, 'a');
ALTER TABLE part ADD COLUMN v text;
INSERT INTO part_a (id, region) VALUES (2, 'a');
UPDATE part SET id = 3 WHERE id = 2;
TRUNCATE part_a;
CREATE TABLE part_b PARTITION OF part FOR VALUES IN ('b');
INSERT INTO part VALUES (4, 'b');
SELECT * FROM last_events(9);
CREATE TABLE base (id integer PRIMARY KEY);
CREATE TABLE child (extra text) INHERITS (base);
SELECT outbox.capture('base'), outbox.capture('child', name => 'own', key => '{id}');
ALTER TABLE child ADD COLUMN more text;
INSERT INTO child VALUES (1);
ALTER TABLE base ADD COLUMN v text;
INSERT INTO child VALUES (2);
SELECT * FROM last_events(4);
SELECT * FROM version WHERE source ~ 'public.(part|base|child)';

-- tables of a type change with it
CREATE TYPE form AS (id integer, a text, b text);
CREATE TABLE filled OF form (PRIMARY KEY (id));
SELECT outbox.capture('filled', columns => '{id,a}');
ALTER TYPE form RENAME ATTRIBUTE a TO renamed CASCADE;
INSERT INTO filled VALUES (1, 'a', 'b');
ALTER TYPE form ADD ATTRIBUTE c text CASCADE, DROP ATTRIBUTE b CASCADE;
INSERT INTO filled VALUES (2, 'a', 'c');
SELECT * FROM last_events(2);
ALTER TYPE form DROP ATTRIBUTE renamed CASCADE;
SELECT * FROM version WHERE source = 'public.filled';

-- rows that exist already
SELECT outbox.capture('filled', name => 'whole');
SELECT outbox.snapshot('filled');
SELECT * FROM last_events(2);

-- what a handler emits does not inherit it
CREATE FUNCTION echo(event outbox.event) RETURNS void LANGUAGE sql AS $$
    SELECT outbox.publish('Echo', (event).headers, headers => '{"mine": 1}')
$$;
SET client_min_messages = error;
SELECT outbox.subscribe('echo', '{filled.*}', 'echo');
RESET client_min_messages;
SET outbox.headers = '{"free": true}';
INSERT INTO filled VALUES (3, 'a', 'c');
RESET outbox.headers;
CALL outbox.run();
SELECT data, headers FROM last_events(1);

-- data has the columns that its version says
SELECT e.source, count(*) AS events, bool_and(d.keys <@ v.names) AS known
FROM outbox.event e
JOIN LATERAL (SELECT array_agg(c ->> 'name') AS names
              FROM outbox.schema_version s, jsonb_array_elements(s.columns) c
              WHERE s.source = e.source AND s.version = coalesce((e.headers ->> 'schema_version')::integer, 1)) v ON true
JOIN LATERAL (SELECT array_agg(key) AS keys FROM jsonb_object_keys(e.data) key) d ON true
WHERE e.operation <> 'truncate' GROUP BY 1 ORDER BY 1;

-- without its record, as after a dump without the log, a table goes on, too
TRUNCATE outbox.schema_version;
ALTER TABLE filled ADD CONSTRAINT positive CHECK (id > 0);
SELECT * FROM version;
ALTER TYPE form ADD ATTRIBUTE d text CASCADE;
SELECT * FROM version;
ALTER TABLE part RENAME TO whole;
SELECT * FROM version;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE left_one, right_one, whole, base, child, filled;
DROP TYPE form;
DROP TYPE mood CASCADE;
DROP FUNCTION last_events(integer);
