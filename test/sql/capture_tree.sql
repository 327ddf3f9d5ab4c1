-- Partitioned and inherited tables: a rule is for the table and all below it.
CREATE EXTENSION pg_outbox;
CREATE VIEW trigger AS
    SELECT tgrelid::regclass::text AS relation, tgname, tgenabled FROM pg_trigger
    WHERE tgname LIKE 'outbox%' ORDER BY 1, tgname COLLATE "C";
CREATE VIEW news AS
    SELECT type, source, key, data, old, headers FROM outbox.event
    WHERE xid = pg_current_xact_id() ORDER BY id;

CREATE TABLE part (id integer, region text, amount integer, secret text, PRIMARY KEY (region, id))
    PARTITION BY LIST (region);
CREATE TABLE part_n PARTITION OF part FOR VALUES IN ('n');
SELECT outbox.capture('part', exclude => '{secret}');
CREATE TABLE part_s (junk integer, amount integer, region text NOT NULL, secret text, id integer NOT NULL);
ALTER TABLE part_s DROP COLUMN junk;
ALTER TABLE part ATTACH PARTITION part_s FOR VALUES IN ('s');
CREATE TABLE part_d PARTITION OF part DEFAULT PARTITION BY RANGE (id);
CREATE TABLE part_d0 PARTITION OF part_d FOR VALUES FROM (0) TO (100);
SELECT * FROM trigger;

-- through the root, and straight to a leaf
BEGIN;
INSERT INTO part VALUES (1, 'n', 1), (2, 'n', 2), (3, 's', 3), (4, 'deep', 4);
INSERT INTO part_s (id, region) VALUES (5, 's');
COPY part_d0 (id, region) FROM stdin;
6	copied
\.
SELECT * FROM news;
COMMIT;

-- rows that move to another leaf are updated
BEGIN;
UPDATE part SET region = CASE region WHEN 'n' THEN 's' ELSE 'n' END, amount = amount + 10 WHERE id < 5;
SELECT * FROM news;
COMMIT;
-- also by upsert, and many of them, more than the buffer holds
BEGIN;
INSERT INTO part SELECT n, 'n', n FROM generate_series(1000, 5999) n;
UPDATE part SET region = 's' WHERE id >= 1000;
SELECT type, count(*), count(DISTINCT key), count(old) FROM news GROUP BY 1 ORDER BY 1;
ROLLBACK;
-- no captured column and no key changed
CREATE TABLE hidden (id integer, place integer, note text) PARTITION BY LIST (place);
CREATE TABLE hidden_1 PARTITION OF hidden FOR VALUES IN (1);
CREATE TABLE hidden_2 PARTITION OF hidden FOR VALUES IN (2);
SELECT outbox.capture('hidden', key => '{id}', exclude => '{place}', old_values => 'all');
SELECT outbox.capture('hidden', key => '{id}', operations => '{update}', type => 'Moved');
SELECT outbox.capture('hidden', key => '{id}', operations => '{insert}', type => 'New');
SELECT outbox.capture('hidden', key => '{id}', operations => '{delete}', type => 'Gone');
BEGIN;
INSERT INTO hidden VALUES (1, 1, 'a');
UPDATE hidden SET place = 2;
UPDATE hidden SET place = 1, note = 'b';
DELETE FROM hidden;
SELECT type, key, data, old, headers FROM news;
ROLLBACK;
-- a trigger suppresses the second half of the move: the row is gone
CREATE FUNCTION suppress() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN new.id % 2 = 0 THEN new END; END $$;
CREATE TRIGGER suppress BEFORE INSERT ON hidden_2 FOR EACH ROW EXECUTE FUNCTION suppress();
BEGIN;
INSERT INTO hidden SELECT n, 1, 'x' FROM generate_series(1, 4) n;
UPDATE hidden SET place = 2, note = 'y';
INSERT INTO hidden VALUES (6, 1, 'z');
SELECT type, key, data, old, headers FROM news OFFSET 8;
ROLLBACK;
SELECT relation, name, operations FROM outbox.capture_rule ORDER BY 1, 2;
SELECT outbox.uncapture('hidden', 'Moved'), outbox.uncapture('hidden');

-- TRUNCATE: of the root one event, of a leaf its own
BEGIN;
TRUNCATE part_s;
TRUNCATE part;
TRUNCATE part_n, part_s;
TRUNCATE part_d;
SELECT type, source, key, data, headers FROM news;
COMMIT;

-- leaves come and go
ALTER TABLE part DETACH PARTITION part_s;
INSERT INTO part_s (id, region) VALUES (1, 's');
TRUNCATE part_s;
ALTER TABLE part_s RENAME TO standalone;
CREATE TABLE part_s PARTITION OF part FOR VALUES IN ('s');
BEGIN;
INSERT INTO part VALUES (1, 's', 1);
TRUNCATE part_s;
SELECT type, source, key, headers FROM news;
COMMIT;
SELECT * FROM trigger;

-- columns: renamed ones are followed, named ones cannot be dropped
ALTER TABLE part RENAME COLUMN secret TO hidden;
BEGIN;
INSERT INTO part VALUES (1, 's', 1, 'hidden');
SELECT data FROM news;
ROLLBACK;
ALTER TABLE part DROP COLUMN hidden;
ALTER TABLE part DROP COLUMN amount;
SELECT columns FROM outbox.capture_rule;
SELECT outbox.uncapture('part');
SELECT * FROM trigger;

-- plain inheritance
CREATE TABLE base (id integer PRIMARY KEY, a text);
CREATE TABLE child (extra integer) INHERITS (base);
SELECT outbox.capture('base', type => 'Named', condition => 'new.a IS NOT NULL');
SELECT outbox.capture('base');
CREATE TABLE grandchild (more integer) INHERITS (child);
CREATE TABLE late (b text, a text, id integer NOT NULL);
ALTER TABLE late INHERIT base;
CREATE TABLE merged () INHERITS (child, late);
SELECT * FROM trigger;
BEGIN;
INSERT INTO base VALUES (1, 'base');
INSERT INTO child VALUES (2, 'child', 20);
INSERT INTO grandchild VALUES (3, NULL, 30, 300);
INSERT INTO late VALUES ('b', 'late', 4);
INSERT INTO merged (id, a) VALUES (5, 'merged');
UPDATE base SET a = upper(a) WHERE id IN (2, 4, 5);
UPDATE child SET extra = 0;
DELETE FROM base WHERE id = 4;
SELECT * FROM news;
COMMIT;
BEGIN;
TRUNCATE base;
TRUNCATE ONLY base;
TRUNCATE late;
SELECT type, source, headers FROM news;
COMMIT;
ALTER TABLE late NO INHERIT base;
ALTER TABLE merged NO INHERIT late;
ALTER TABLE base RENAME COLUMN a TO "A";
SELECT * FROM trigger;
BEGIN;
INSERT INTO late VALUES ('b', 'late', 4);
INSERT INTO merged (id, "A") VALUES (5, 'merged');
SELECT * FROM news;
ROLLBACK;
SELECT outbox.uncapture('base');
SELECT * FROM trigger;

-- a missing key is refused, unless none is wanted or no row is captured
CREATE TABLE no_key (a integer, b integer NOT NULL, c text);
SELECT outbox.capture('no_key');
SELECT outbox.capture('no_key', operations => '{truncate}', name => 'truncated');
SELECT outbox.capture('no_key', key => '{}', name => 'unordered');
CREATE UNIQUE INDEX no_key_b ON no_key (b);
SELECT outbox.capture('no_key', name => 'too early');
SELECT outbox.capture('no_key', name => 'named', key => '{b}');
ALTER TABLE no_key REPLICA IDENTITY USING INDEX no_key_b;
SELECT outbox.capture('no_key', name => 'identity');
BEGIN;
INSERT INTO no_key VALUES (1, 2, 'x');
SELECT key, data FROM news;
ROLLBACK;
SELECT name, key, operations FROM outbox.capture_rule ORDER BY 1;

-- the owner of a captured table makes partitions of it, but no rules
CREATE ROLE regress_outbox_owner;
CREATE SCHEMA regress_outbox_tree AUTHORIZATION regress_outbox_owner;
SET ROLE regress_outbox_owner;
CREATE TABLE regress_outbox_tree.t (id integer PRIMARY KEY) PARTITION BY RANGE (id);
RESET ROLE;
SELECT outbox.capture('regress_outbox_tree.t');
SET ROLE regress_outbox_owner;
CREATE TABLE regress_outbox_tree.t1 PARTITION OF regress_outbox_tree.t FOR VALUES FROM (0) TO (10);
CREATE TABLE regress_outbox_tree.t2 (id integer NOT NULL);
ALTER TABLE regress_outbox_tree.t ATTACH PARTITION regress_outbox_tree.t2 FOR VALUES FROM (10) TO (20);
INSERT INTO regress_outbox_tree.t VALUES (1), (11);
TRUNCATE regress_outbox_tree.t2;
CREATE TABLE regress_outbox_tree.other (id integer);
CREATE TRIGGER forged AFTER INSERT ON regress_outbox_tree.other FOR EACH ROW
    EXECUTE FUNCTION outbox.capture_row('{"name": "forged", "type": "Forged", "old_values": "none"}');
RESET ROLE;
SELECT type, key, headers FROM outbox.event WHERE source LIKE '%tree%' ORDER BY id;

-- changes that replication applies: only where the rule says so
SELECT outbox.uncapture('no_key');
SELECT outbox.capture('no_key', name => 'origin');
SELECT outbox.capture('no_key', name => 'everywhere', replicated => true);
SELECT name, replicated FROM outbox.capture_rule WHERE relation = 'no_key'::regclass ORDER BY 1;
BEGIN;
SET LOCAL session_replication_role = replica;
INSERT INTO no_key VALUES (1, 1, 'replica');
SET LOCAL session_replication_role = origin;
INSERT INTO no_key VALUES (1, 2, 'origin');
SELECT type, key FROM news;
ROLLBACK;

-- rows from before, in batches
CREATE TABLE old (id integer PRIMARY KEY, v text, secret text) PARTITION BY RANGE (id);
CREATE TABLE old_1 PARTITION OF old FOR VALUES FROM (0) TO (10);
INSERT INTO old SELECT n, 'v' || n, 'x' FROM generate_series(1, 5) n;
SELECT outbox.snapshot('old');
SELECT outbox.capture('old', operations => '{insert}', name => 'partial');
SELECT outbox.snapshot('old');
SELECT outbox.capture('old', exclude => '{secret}');
SELECT outbox.snapshot('old', 0);
SELECT outbox.snapshot('old', 2);
SELECT last_key FROM outbox.snapshot_progress;
BEGIN;
SELECT outbox.snapshot('old', 2);
SELECT type, source, key, data, headers FROM news;
ROLLBACK;
SELECT outbox.snapshot('old', 3);
SELECT outbox.snapshot('old', 3);
SELECT outbox.snapshot('old', 100);
SELECT key, count(*), min(operation) FROM outbox.event WHERE type = 'old.snapshot' GROUP BY 1 ORDER BY 1;
SET ROLE regress_outbox_owner;
SELECT outbox.snapshot('old');
RESET ROLE;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP VIEW trigger;
DROP TABLE part, standalone, hidden, base, child, grandchild, late, merged, no_key, old CASCADE;
DROP FUNCTION suppress();
DROP SCHEMA regress_outbox_tree CASCADE;
DROP ROLE regress_outbox_owner;

