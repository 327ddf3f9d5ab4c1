-- ALTER TABLE and its like at any moment: what is captured follows.
CREATE EXTENSION pg_outbox;
CREATE FUNCTION last_events(integer) RETURNS TABLE (
    type text, source text, key text, data jsonb, old jsonb)
    LANGUAGE sql STABLE AS $$
    SELECT type, source, key, data, old
    FROM (SELECT * FROM outbox.event ORDER BY id DESC LIMIT $1) e ORDER BY id
$$;

CREATE TABLE thing (id integer PRIMARY KEY, a text, b integer, c boolean);
SELECT outbox.capture('thing');
INSERT INTO thing VALUES (1, 'x', 1, true);

-- columns come, go, change their name and type, between statements
ALTER TABLE thing DROP COLUMN a;
INSERT INTO thing VALUES (2, 2, false);
ALTER TABLE thing ADD COLUMN d text DEFAULT 'default', ADD COLUMN e integer;
INSERT INTO thing VALUES (3, 3, NULL);
-- rows from before the new column have its default
UPDATE thing SET b = 20 WHERE id = 2;
ALTER TABLE thing RENAME COLUMN b TO "B renamed";
ALTER TABLE thing ALTER COLUMN "B renamed" TYPE text USING 'now ' || "B renamed";
UPDATE thing SET e = 1 WHERE id = 2;
SELECT * FROM last_events(5);

-- and within a transaction, also one that is rolled back
BEGIN;
INSERT INTO thing (id) VALUES (10);
ALTER TABLE thing DROP COLUMN d;
INSERT INTO thing (id) VALUES (11);
SAVEPOINT s;
ALTER TABLE thing ADD COLUMN f integer[];
INSERT INTO thing (id, f) VALUES (12, '{1}');
SELECT * FROM last_events(3);
ROLLBACK TO s;
INSERT INTO thing (id) VALUES (13);
SELECT * FROM last_events(3);
ROLLBACK;
INSERT INTO thing (id) VALUES (14);
SELECT * FROM last_events(1);

-- names of tables and schemas are those of the moment
ALTER TABLE thing RENAME TO "Thing two";
CREATE SCHEMA elsewhere;
INSERT INTO "Thing two" (id) VALUES (20);
ALTER TABLE "Thing two" SET SCHEMA elsewhere;
INSERT INTO elsewhere."Thing two" (id) VALUES (21);
ALTER SCHEMA elsewhere RENAME TO "ander.s";
INSERT INTO "ander.s"."Thing two" (id) VALUES (22);
ALTER TABLE "ander.s"."Thing two" SET SCHEMA public;
ALTER TABLE "Thing two" RENAME TO thing;
INSERT INTO thing (id) VALUES (23);
SELECT type, source, key FROM last_events(4);

-- but not such as events cannot have
ALTER TABLE thing RENAME TO "thing*";
INSERT INTO thing (id) VALUES (24);

-- the default key is the primary key of the moment
ALTER TABLE thing DROP CONSTRAINT thing_pkey;
INSERT INTO thing (id, e) VALUES (30, 1);
SELECT key FROM outbox.capture_rule;
UPDATE thing SET e = id;
ALTER TABLE thing ADD PRIMARY KEY (e, id);
INSERT INTO thing (id, e) VALUES (31, 2);
SELECT key FROM outbox.capture_rule;
SELECT key FROM last_events(1);
SELECT DISTINCT key IS NULL AS no_key FROM outbox.event WHERE operation = 'update' AND (data ->> 'id')::integer > 10;

-- rules made, removed and changed in one session, without reconnecting
SELECT outbox.uncapture('thing');
INSERT INTO thing (id, e) VALUES (40, 1);
SELECT outbox.capture('thing', condition => 'new.id > 41', columns => '{id}');
INSERT INTO thing (id, e) VALUES (41, 1), (42, 1);
SELECT outbox.uncapture('thing');
SELECT outbox.capture('thing', condition => 'new.id < 44', exclude => '{e,d,c}', type => 'Small');
INSERT INTO thing (id, e) VALUES (43, 1), (44, 1);
BEGIN;
SELECT outbox.uncapture('thing');
INSERT INTO thing (id, e) VALUES (-1, 1);
ROLLBACK;
INSERT INTO thing (id, e) VALUES (-2, 1);
SELECT type, key, data FROM outbox.event WHERE id > (SELECT max(id) FROM outbox.event WHERE key = '2,31') ORDER BY id;
SELECT outbox.uncapture('thing');

-- a rule follows a column that is renamed, and keeps one that it names
SELECT outbox.capture('thing', columns => '{id,e,c}');
SELECT outbox.capture('thing', exclude => '{d}', name => 'excluding');
SELECT outbox.capture('thing', key => '{c}', name => 'keyed', condition => 'new.c');
BEGIN;
ALTER TABLE thing RENAME COLUMN c TO cc;
INSERT INTO thing (id, e, cc) VALUES (50, 1, true);
SELECT type, key, data FROM last_events(3);
ALTER TABLE thing RENAME COLUMN d TO dd;
INSERT INTO thing (id, e, cc) VALUES (51, 1, true);
SELECT type, key, data FROM last_events(3);
SELECT name, key, columns, condition FROM outbox.capture_rule ORDER BY 1;
ROLLBACK;
INSERT INTO thing (id, e, c) VALUES (51, 1, true);
SELECT type, key, data FROM last_events(3);
ALTER TABLE thing DROP COLUMN c;
ALTER TABLE thing DROP COLUMN c CASCADE;
ALTER TABLE thing DROP COLUMN d, ADD COLUMN d integer;
SELECT name FROM outbox.capture_rule ORDER BY 1;
-- also if the column goes with its type
CREATE DOMAIN short AS text;
ALTER TABLE thing ADD COLUMN s short;
SELECT outbox.capture('thing', columns => '{s}', name => 'short');
DROP DOMAIN short CASCADE;
SELECT outbox.uncapture('thing');
DROP DOMAIN short CASCADE;

-- types change what they print, casts appear
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TABLE paint (id integer PRIMARY KEY, color color);
SELECT outbox.capture('paint');
INSERT INTO paint VALUES (1, 'red');
ALTER TYPE color RENAME VALUE 'red' TO 'crimson';
INSERT INTO paint VALUES (2, 'crimson');
CREATE FUNCTION color_to_json(color) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('color', $1::text) $$;
CREATE CAST (color AS json) WITH FUNCTION color_to_json(color);
INSERT INTO paint VALUES (3, 'green');
CREATE OR REPLACE FUNCTION color_to_json(color) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_build_object('colour', $1::text) $$;
INSERT INTO paint VALUES (4, 'green');
DROP CAST (color AS json);
INSERT INTO paint VALUES (5, 'green');
SELECT data FROM last_events(5);

-- the table changes in the middle of a statement that captures: a cast to json
-- that makes and removes rules of the same table
CREATE FUNCTION color_to_json_ddl(color) RETURNS json LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM outbox.capture('thing', name => 'meanwhile');
    PERFORM outbox.uncapture('thing', 'meanwhile');
    COMMENT ON TABLE paint IS 'changes the relcache entry';
    CREATE SCHEMA meanwhile;
    DROP SCHEMA meanwhile;
    RETURN json_build_object('after', $1::text);
END
$$;
CREATE CAST (color AS json) WITH FUNCTION color_to_json_ddl(color);
INSERT INTO paint SELECT n, 'green' FROM generate_series(10, 14) n;
UPDATE paint SET color = 'crimson' WHERE id > 10;
SELECT key, data, old FROM last_events(9);

-- a rule's trigger can be disabled like any other
ALTER TABLE paint DISABLE TRIGGER USER;
INSERT INTO paint VALUES (20, NULL);
ALTER TABLE paint ENABLE TRIGGER USER;
INSERT INTO paint VALUES (21, NULL);
SELECT key FROM last_events(1);

-- partitions: the source is the table that the rule is for
CREATE TABLE part (id integer, region text, amount numeric, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
CREATE TABLE part_north PARTITION OF part FOR VALUES IN ('n');
SELECT outbox.capture('part');
CREATE TABLE part_south (extra integer, amount numeric, region text NOT NULL, id integer NOT NULL);
ALTER TABLE part_south DROP COLUMN extra;
ALTER TABLE part ATTACH PARTITION part_south FOR VALUES IN ('s');
SELECT outbox.capture('part_south', name => 'on the leaf', columns => '{id}');
INSERT INTO part VALUES (1, 'n', 1), (2, 's', 2);
UPDATE part SET amount = 20 WHERE id = 2;
INSERT INTO part_south (id, region) VALUES (3, 's');
SELECT type, source, key, data, old, headers FROM outbox.event WHERE source LIKE '%part%' ORDER BY id;
SELECT relation, name FROM outbox.capture_rule WHERE relation::text LIKE 'part%' ORDER BY 2;
SELECT outbox.uncapture('part_south', 'part');
SELECT outbox.uncapture('part_south');
ALTER TABLE part DETACH PARTITION part_south;
INSERT INTO part_south (id, region) VALUES (4, 's');
ALTER TABLE part RENAME TO whole;
INSERT INTO whole VALUES (5, 'n', 1);
SELECT type, source, key, headers FROM outbox.event ORDER BY id DESC LIMIT 1;
SELECT outbox.uncapture('whole');
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'outbox%' AND tgrelid::regclass::text LIKE 'part%';

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE thing, paint, whole, part_south;
DROP TYPE color CASCADE;
DROP FUNCTION last_events(integer);
DROP SCHEMA "ander.s";
