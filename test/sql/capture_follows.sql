-- Capture rules follow what a command did, whatever its tag; and rules are made
-- by outbox.capture() alone, whatever the command that makes a trigger.
CREATE EXTENSION pg_outbox;
CREATE ROLE regress_outbox_old;
CREATE ROLE regress_outbox_new;
CREATE ROLE regress_outbox_forger;
CREATE SCHEMA regress_outbox_follows;
GRANT ALL ON SCHEMA regress_outbox_follows TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.capture TO regress_outbox_old;
SET search_path = regress_outbox_follows;

-- REASSIGN OWNED: the new owner makes and attaches partitions, as the old one did
SET ROLE regress_outbox_old;
CREATE TABLE part (id integer, day integer, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
SELECT outbox.capture('part');
CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
RESET ROLE;
REASSIGN OWNED BY regress_outbox_old TO regress_outbox_new;
SET ROLE regress_outbox_new;
CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2) PARTITION BY LIST (id);
CREATE TABLE part_3 (LIKE part INCLUDING ALL);
ALTER TABLE part ATTACH PARTITION part_3 FOR VALUES IN (3);
CREATE TABLE part_21 PARTITION OF part_2 FOR VALUES IN (1);
INSERT INTO part VALUES (1, 1), (1, 2), (1, 3);
TRUNCATE part_3;
RESET ROLE;
SELECT type, key, headers FROM outbox.event ORDER BY id;
DROP OWNED BY regress_outbox_old;
DROP ROLE regress_outbox_old;

-- commands that are named after something else rename tables and columns
CREATE TABLE thing (id integer PRIMARY KEY, a text, b text);
SELECT outbox.capture('thing', columns => '{id,a}');
ALTER VIEW thing RENAME COLUMN a TO c;
ALTER MATERIALIZED VIEW thing RENAME COLUMN c TO d;
ALTER INDEX thing RENAME TO object;
SELECT relation, name, columns FROM outbox.capture_rule WHERE name = 'thing';
INSERT INTO object VALUES (1, 'x', 'y');
ALTER TABLE object RENAME TO thing;
SELECT type, data FROM outbox.event ORDER BY id DESC LIMIT 1;
-- within REFRESH MATERIALIZED VIEW, where PostgreSQL does not tell of commands
CREATE FUNCTION alter_things() RETURNS integer LANGUAGE plpgsql SET search_path = regress_outbox_follows AS $$
BEGIN
    ALTER TABLE thing RENAME COLUMN d TO e;
    ALTER TABLE thing ADD COLUMN new integer;
    RETURN 1;
END $$;
CREATE MATERIALIZED VIEW altering AS SELECT alter_things() WITH NO DATA;
REFRESH MATERIALIZED VIEW altering;
SELECT relation, name, columns FROM outbox.capture_rule WHERE name = 'thing';
SELECT source, version, columns -> 3 AS fourth FROM outbox.schema_version WHERE source LIKE '%.thing' ORDER BY 2;
INSERT INTO thing VALUES (2, 'x', 'y');
-- a type that gets another name is another one in the history
CREATE TYPE color AS ENUM ('red');
ALTER TABLE thing ADD COLUMN color color;
ALTER TYPE color RENAME TO shade;
SELECT version, columns -> 4 ->> 'type' AS fifth FROM outbox.schema_version WHERE source LIKE '%.thing' ORDER BY 1;

-- triggers made by hand are refused, whatever makes them
RESET ROLE;
CREATE TABLE owned (id integer PRIMARY KEY) PARTITION BY RANGE (id);
ALTER TABLE owned OWNER TO regress_outbox_forger;
SELECT outbox.capture('owned');
SELECT has_function_privilege('regress_outbox_forger', 'outbox.capture_row()', 'execute') AS has_execute;
DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO regress_outbox_forger', current_database()); END $$;
SET ROLE regress_outbox_forger;
CREATE TABLE mine (id integer PRIMARY KEY, v text);
CREATE TRIGGER forged AFTER INSERT ON mine FOR EACH ROW
    EXECUTE FUNCTION outbox.capture_row('{"name": "forged", "type": "Forged", "old_values": "none"}');
CREATE SCHEMA regress_outbox_forged CREATE TABLE t (id integer)
    CREATE TRIGGER forged AFTER INSERT ON t FOR EACH ROW
    EXECUTE FUNCTION outbox.capture_row('{"name": "forged", "type": "Forged", "old_values": "none"}');
CREATE CONSTRAINT TRIGGER forged AFTER INSERT ON mine DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION outbox.capture_row('{"name": "forged", "type": "Forged", "old_values": "none"}');
DO $$ BEGIN
    EXECUTE $q$CREATE TRIGGER forged AFTER INSERT ON mine FOR EACH ROW
        EXECUTE FUNCTION outbox.capture_row('{"name": "forged", "type": "Forged", "old_values": "none"}')$q$;
END $$;
CREATE FUNCTION forge() RETURNS integer LANGUAGE plpgsql SET search_path = regress_outbox_follows AS $$
BEGIN
    CREATE TRIGGER forged AFTER INSERT ON mine FOR EACH ROW
        EXECUTE FUNCTION outbox.capture_row('{"name": "forged", "type": "Forged", "old_values": "none"}');
    RETURN 1;
END $$;
CREATE MATERIALIZED VIEW forging AS SELECT forge() WITH NO DATA;
REFRESH MATERIALIZED VIEW forging;
CREATE TRIGGER harmless AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
DROP TRIGGER harmless ON mine;
RESET ROLE;
SELECT count(*) FROM pg_trigger WHERE tgname = 'forged';

-- who may make rules makes only such as outbox.capture() does
CREATE ROLE regress_outbox_maker;
GRANT EXECUTE ON FUNCTION outbox.capture_row, outbox.capture_statement, outbox.capture TO regress_outbox_maker;
SET ROLE regress_outbox_maker;
CREATE TABLE open (id integer PRIMARY KEY, v text);
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row();
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}', 'second');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": ');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none", "schema_version": 1e999999}');
CREATE TRIGGER t BEFORE INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH STATEMENT EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH STATEMENT EXECUTE FUNCTION outbox.capture_statement('{"name": "a", "old_values": "none"}');
CREATE TRIGGER t AFTER UPDATE OF v ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none", "columns": ["none"]}');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none", "type": ""}');
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
CREATE TEMP TABLE gone (id integer PRIMARY KEY);
CREATE TRIGGER t AFTER INSERT ON gone FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
CREATE TRIGGER u AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
RESET ROLE;
SELECT relation, name, operations, key, columns, enabled FROM outbox.capture_rule WHERE name = 'a';
DROP TRIGGER t ON open;

-- one that got past all that breaks nothing but itself
BEGIN;
ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
CREATE TRIGGER t AFTER INSERT ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}', 'second');
CREATE TRIGGER u AFTER DELETE ON open FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('nonsense');
CREATE CONSTRAINT TRIGGER v AFTER UPDATE ON open DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    EXECUTE FUNCTION outbox.capture_row('{"name": "a", "old_values": "none"}');
ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;
SELECT name FROM outbox.capture_rule ORDER BY 1;
SAVEPOINT s;
INSERT INTO open VALUES (1);
ROLLBACK TO s;
DROP TRIGGER t ON open;
INSERT INTO open VALUES (1);
COMMIT;
BEGIN;
SAVEPOINT s;
DELETE FROM open;
ROLLBACK TO s;
ALTER TABLE open ADD COLUMN more integer;
UPDATE open SET v = 'x';
COMMIT;
DROP TABLE open;

-- enabled says whether the triggers are there and fire, below as well
CREATE TABLE base (id integer PRIMARY KEY);
CREATE TABLE child () INHERITS (base);
SELECT outbox.capture('base', key => '{id}');
CREATE VIEW state AS SELECT relation, enabled, replicated FROM outbox.capture_rule WHERE relation IN ('part'::regclass, 'base'::regclass) ORDER BY relation::text;
SELECT * FROM state;
ALTER TABLE child DISABLE TRIGGER USER;
ALTER TABLE part_21 DISABLE TRIGGER ALL;
SELECT * FROM state;
ALTER TABLE base ENABLE TRIGGER USER;
ALTER TABLE part ENABLE TRIGGER ALL;
SELECT * FROM state;
-- what is made below while they are disabled follows when they are enabled
ALTER TABLE base DISABLE TRIGGER ALL;
ALTER TABLE part DISABLE TRIGGER USER;
CREATE TABLE grandchild () INHERITS (child);
CREATE TABLE part_4 PARTITION OF part FOR VALUES IN (4);
CREATE TABLE part_22 PARTITION OF part_2 FOR VALUES IN (2);
BEGIN;
INSERT INTO part VALUES (2, 4), (2, 2);
INSERT INTO grandchild VALUES (5);
TRUNCATE part_4, grandchild;
SELECT type, headers FROM outbox.event WHERE xid = pg_current_xact_id() ORDER BY id;
COMMIT;
SELECT * FROM state;
ALTER TABLE base ENABLE TRIGGER ALL;
ALTER TABLE part ENABLE TRIGGER USER;
SELECT * FROM state;
TRUNCATE part, base;
BEGIN;
INSERT INTO part VALUES (2, 4), (2, 2);
INSERT INTO grandchild VALUES (5);
TRUNCATE part_4, part_22, grandchild;
SELECT type, headers FROM outbox.event WHERE xid = pg_current_xact_id() ORDER BY id;
COMMIT;
ALTER TABLE base ENABLE REPLICA TRIGGER outbox_base;
SELECT * FROM state;
ALTER TABLE base ENABLE ALWAYS TRIGGER outbox_base;
SELECT * FROM state;
DROP VIEW state;
-- a restore of data disables and enables all triggers: what is replicated stays so
CREATE TABLE applied (id integer PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE applied_1 PARTITION OF applied FOR VALUES FROM (0) TO (10);
SELECT outbox.capture('applied', replicated => true);
ALTER TABLE applied DISABLE TRIGGER ALL;
ALTER TABLE applied ENABLE TRIGGER ALL;
ALTER TABLE applied_1 DISABLE TRIGGER ALL;
ALTER TABLE applied_1 ENABLE TRIGGER ALL;
SELECT replicated, enabled FROM outbox.capture_rule WHERE relation = 'applied'::regclass;
SELECT DISTINCT tgenabled FROM pg_trigger WHERE tgrelid IN ('applied'::regclass, 'applied_1'::regclass);
ALTER TABLE applied ENABLE TRIGGER outbox_applied;
SELECT replicated, enabled FROM outbox.capture_rule WHERE relation = 'applied'::regclass;

-- what DDL changes for subscribers is said
CREATE TABLE orders (id integer PRIMARY KEY, number integer NOT NULL CONSTRAINT number UNIQUE);
SELECT outbox.capture('orders');
ALTER TABLE orders RENAME COLUMN id TO nr;
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
ALTER TABLE orders REPLICA IDENTITY USING INDEX number;
ALTER TABLE orders ADD PRIMARY KEY (nr, number);
ALTER TABLE orders DROP CONSTRAINT orders_pkey;
CREATE UNIQUE INDEX other ON orders (nr);
ALTER TABLE orders ALTER COLUMN nr SET NOT NULL, REPLICA IDENTITY USING INDEX other;
DROP INDEX other;
ALTER TABLE orders ADD COLUMN more integer;
ALTER TABLE orders DROP COLUMN nr;
SELECT key FROM outbox.capture_rule WHERE relation = 'orders'::regclass;
-- renamed, moved, replaced
CREATE TABLE orders_new (LIKE orders INCLUDING ALL);
ALTER TABLE orders RENAME TO orders_old;
ALTER TABLE orders_new RENAME TO orders;
DROP TABLE orders;
CREATE TABLE orders AS SELECT 1 AS a;
DROP TABLE orders, orders_old;
CREATE TABLE orders (id integer PRIMARY KEY);
SELECT outbox.capture('orders', type => 'Order');
ALTER TABLE orders RENAME TO bestellungen;
ALTER TABLE bestellungen RENAME TO orders;
ALTER TABLE orders RENAME CONSTRAINT orders_pkey TO orders_key;
ALTER TABLE orders SET SCHEMA public;
CREATE TEMP TABLE orders (id integer);

RESET search_path;
SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE public.orders, pg_temp.orders, pg_temp.gone;
DROP SCHEMA regress_outbox_follows CASCADE;
DROP OWNED BY regress_outbox_new, regress_outbox_forger, regress_outbox_maker;
DROP ROLE regress_outbox_new, regress_outbox_forger, regress_outbox_maker;
