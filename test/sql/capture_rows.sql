-- Which changes become which events: every way to change a row.
CREATE EXTENSION pg_outbox;
CREATE FUNCTION events_since(bigint) RETURNS TABLE (
    type text, key text, operation text, data jsonb, old jsonb, headers jsonb)
    LANGUAGE sql STABLE AS $$
    SELECT type, key, operation, data, old, headers FROM outbox.event WHERE id > $1 ORDER BY id
$$;

CREATE TABLE item (id integer PRIMARY KEY, name text, price numeric, tags text[]);
SELECT outbox.capture('item');

-- only what changed is old; nothing changed is no event
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
INSERT INTO item VALUES (1, 'one', 1.0, '{a}'), (2, 'two', NULL, NULL);
UPDATE item SET name = 'uno', price = NULL WHERE id = 1;
UPDATE item SET price = 2 WHERE id = 2;
UPDATE item SET name = name, tags = array['a'] WHERE id = 1;
-- equal, but not the same image
UPDATE item SET price = 2.00 WHERE id = 2;
SELECT * FROM events_since(:mark);

-- upsert
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
INSERT INTO item VALUES (2, 'zwei'), (3, 'drei')
    ON CONFLICT (id) DO UPDATE SET name = excluded.name;
INSERT INTO item VALUES (3, 'x'), (4, 'vier') ON CONFLICT DO NOTHING;
INSERT INTO item VALUES (4, 'never') ON CONFLICT (id) DO UPDATE SET name = excluded.name WHERE false;
SELECT * FROM events_since(:mark);

-- COPY
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
COPY item (id, name) FROM stdin;
10	zehn
11	\N
\.
SELECT * FROM events_since(:mark);

-- writable CTEs: each event in the order in which its statement's triggers fire
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
WITH gone AS (DELETE FROM item WHERE id = 10 RETURNING *),
     come AS (INSERT INTO item SELECT id + 90, name FROM gone RETURNING *)
UPDATE item SET name = 'elf' WHERE id = 11;
SELECT operation, key FROM events_since(:mark) ORDER BY 1, 2;

-- MERGE, where there is one
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 150000 THEN
        EXECUTE 'MERGE INTO item USING (VALUES (11, ''merged''), (12, ''new''), (100, NULL)) AS s (id, name)
            ON item.id = s.id
            WHEN MATCHED AND s.name IS NULL THEN DELETE
            WHEN MATCHED THEN UPDATE SET name = s.name
            WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)';
    ELSE
        UPDATE item SET name = 'merged' WHERE id = 11;
        INSERT INTO item (id, name) VALUES (12, 'new');
        DELETE FROM item WHERE id = 100;
    END IF;
END
$$;
SELECT operation, key, data ->> 'name' AS name FROM events_since(:mark) ORDER BY 2;

-- a new key: one event under it, which names the old one
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
UPDATE item SET id = 20 WHERE id = 12;
SELECT * FROM events_since(:mark);

-- savepoints and exception blocks: what is rolled back leaves no event
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
BEGIN;
INSERT INTO item VALUES (30, 'kept');
SAVEPOINT a;
INSERT INTO item VALUES (31, 'lost');
SAVEPOINT b;
UPDATE item SET name = 'lost' WHERE id = 30;
ROLLBACK TO a;
INSERT INTO item VALUES (32, 'kept');
SAVEPOINT c;
INSERT INTO item VALUES (33, 'kept');
RELEASE c;
COMMIT;
DO $$
BEGIN
    INSERT INTO item VALUES (34, 'kept');
    BEGIN
        INSERT INTO item VALUES (35, 'lost');
        INSERT INTO item VALUES (34, 'duplicate');
    EXCEPTION WHEN unique_violation THEN
        INSERT INTO item VALUES (36, 'kept');
    END;
END
$$;
BEGIN;
INSERT INTO item VALUES (37, 'lost');
ROLLBACK;
INSERT INTO item VALUES (38, 'lost'), (34, 'duplicate');
SELECT operation, key, data ->> 'name' AS name FROM events_since(:mark);

-- other triggers: BEFORE ones change the row, AFTER ones make further events
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.name := upper(NEW.name);
    RETURN NEW;
END
$$;
CREATE FUNCTION follow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id < 43 THEN
        INSERT INTO item VALUES (NEW.id + 1, 'follows ' || NEW.id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION shout();
CREATE TRIGGER zz_follow AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION follow();
INSERT INTO item VALUES (40, 'first');
UPDATE item SET name = 'first' WHERE id = 40;
SELECT operation, key, data ->> 'name' AS name FROM events_since(:mark);
DROP TRIGGER shout ON item;
DROP TRIGGER zz_follow ON item;
SELECT outbox.uncapture('item');

-- conditions, columns and several rules side by side
CREATE TABLE sale (id integer PRIMARY KEY, status text, amount numeric, note text);
SELECT outbox.capture('sale', '{insert}', 'SalePlaced', exclude => '{note}');
SELECT outbox.capture('sale', type => 'SalePaid', columns => '{id,status,amount}',
                      condition => 'old.status <> new.status and new.status = ''paid''');
SELECT outbox.capture('sale', type => 'BigSale', condition => 'new.amount >= 1000', old_values => 'none');
SELECT outbox.capture('sale', '{update}', 'NoteTaken', columns => '{note}', old_values => 'all', key => '{amount,id}');
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
INSERT INTO sale VALUES (1, 'new', 5, 'n'), (2, 'new', 5000, 'n');
UPDATE sale SET status = 'paid';
UPDATE sale SET status = 'paid', note = 'again' WHERE id = 1;
UPDATE sale SET note = 'again', amount = 1 WHERE id = 1;
UPDATE sale SET amount = NULL WHERE id = 2;
SELECT type, key, data, old, headers FROM events_since(:mark);

-- keys: of any type, whatever the session's settings; NULL where a part is
CREATE TABLE keyed (
    i smallint, b boolean, t text, c char(3), n numeric, d date, ts timestamp, tz timestamptz,
    u uuid, f double precision, y bytea, v interval, r daterange, g regclass, a integer[], e bigint);
SELECT outbox.capture('keyed', key => '{i,b,t,c,n,d,ts,tz,u,f,y,v,r,g,a}', columns => '{i}');
SELECT outbox.capture('keyed', key => '{e,t}', columns => '{i}', name => 'short');
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
INSERT INTO keyed VALUES (1, true, 'x,y', 'c', 1.50, '2024-02-29', '2024-02-29 12:30:00.5', '2024-02-29 12:30:00+02',
    '00000000-0000-0000-0000-000000000001', 0.1, '\x00ff', '1 day 02:00', '[2024-01-01,2024-02-01)', 'keyed', '{1,NULL}',
    9223372036854775807);
SET datestyle = 'German';
SET timezone = 'Asia/Tokyo';
SET extra_float_digits = -10;
SET bytea_output = 'escape';
SET intervalstyle = 'iso_8601';
SET search_path = pg_catalog;
INSERT INTO public.keyed SELECT * FROM public.keyed;
SELECT current_setting('datestyle'), current_setting('timezone'), current_setting('intervalstyle');
RESET search_path;
RESET datestyle;
RESET timezone;
RESET extra_float_digits;
RESET bytea_output;
RESET intervalstyle;
UPDATE keyed SET t = NULL, f = 'infinity', d = '-infinity', tz = 'infinity', ts = '0044-03-15 BC' WHERE ctid = '(0,1)';
SELECT type, key, headers FROM events_since(:mark);
SELECT outbox.capture('item', key => '{name}', name => 'long');
INSERT INTO item VALUES (50, repeat('x', 2000));
SELECT length(key) FROM outbox.event ORDER BY id DESC LIMIT 1;
INSERT INTO item VALUES (51, repeat('x', 2001));
SELECT outbox.uncapture('item');

-- foreign keys that cascade, and constraints that are deferred
CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (
    id integer PRIMARY KEY,
    parent integer REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
SELECT outbox.capture('parent');
SELECT outbox.capture('child');
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
BEGIN;
INSERT INTO child VALUES (11, 1), (12, 1), (21, 2);
INSERT INTO parent VALUES (1), (2);
COMMIT;
UPDATE parent SET id = 3 WHERE id = 1;
DELETE FROM parent WHERE id = 3;
BEGIN;
INSERT INTO child VALUES (99, 99);
COMMIT;
SELECT type, key, data FROM events_since(:mark);
TRUNCATE parent CASCADE;
SELECT type, key, data FROM outbox.event ORDER BY id DESC LIMIT 2;

-- long values: out of line, unchanged by the update, and changed
CREATE TABLE doc (id integer PRIMARY KEY, title text, body text, raw bytea, small text);
ALTER TABLE doc ALTER body SET STORAGE EXTERNAL;
SELECT outbox.capture('doc');
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
INSERT INTO doc SELECT 1, 'long', string_agg(md5(n::text), ''), decode(string_agg(md5((-n)::text), ''), 'hex'), 's'
FROM generate_series(1, 3000) n;
UPDATE doc SET title = 'still long';
UPDATE doc SET body = body || '!';
UPDATE doc SET body = left(body, -1) || '!';
DELETE FROM doc;
SELECT operation, length(data ->> 'body') AS body, md5(data ->> 'body') = md5(lag(data ->> 'body') OVER ()) AS same,
       length(data ->> 'raw') AS raw, ARRAY(SELECT jsonb_object_keys(old)) AS old, length(old ->> 'body') AS old_body
FROM events_since(:mark);

-- the session's role in replication decides, as for every ordinary trigger
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
SET session_replication_role = replica;
INSERT INTO item VALUES (60, 'replica');
RESET session_replication_role;
SELECT count(*) FROM events_since(:mark);

-- what cannot be an event says where
CREATE TABLE broken (id integer PRIMARY KEY, j json);
SELECT outbox.capture('broken');
INSERT INTO broken VALUES (1, '"\u0000"');
INSERT INTO broken VALUES (1, '"fine"');

-- the functions are for the rules' triggers only
CREATE TRIGGER by_hand AFTER INSERT ON broken FOR EACH ROW EXECUTE FUNCTION outbox.capture_row();
CREATE TRIGGER by_hand AFTER INSERT ON broken FOR EACH ROW EXECUTE FUNCTION outbox.capture_row('{"name": 1}');
CREATE TRIGGER by_hand BEFORE INSERT ON broken FOR EACH ROW
    EXECUTE FUNCTION outbox.capture_row('{"name": "by hand", "old_values": "none"}');
INSERT INTO broken VALUES (2, NULL);
DROP TRIGGER by_hand ON broken;
CREATE TRIGGER by_hand AFTER INSERT ON broken FOR EACH STATEMENT
    EXECUTE FUNCTION outbox.capture_row('{"name": "by hand", "old_values": "none"}');
INSERT INTO broken VALUES (2, NULL);
DROP TRIGGER by_hand ON broken;

-- many rows in one transaction and one statement
CREATE TABLE many (id integer PRIMARY KEY, batch integer);
SELECT outbox.capture('many', exclude => '{batch}');
-- memory in the middle of it: the view is new in 14
CREATE FUNCTION measure() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bytes bigint;
BEGIN
    IF to_regclass('pg_catalog.pg_backend_memory_contexts') IS NOT NULL THEN
        EXECUTE $q$ SELECT sum(total_bytes) FROM pg_backend_memory_contexts
                    WHERE name LIKE 'pg_outbox%' OR name = 'TopTransactionContext' $q$ INTO bytes;
    END IF;
    RAISE NOTICE 'less than 4 MB: %', coalesce(bytes, 0) < 4 * 1024 * 1024;
    RETURN NULL;
END
$$;
CREATE TRIGGER zz_measure AFTER INSERT ON many FOR EACH ROW WHEN (new.id = 99990) EXECUTE FUNCTION measure();
SELECT coalesce(max(id), 0) AS mark FROM outbox.event \gset
BEGIN;
INSERT INTO many SELECT n, 1 FROM generate_series(1, 50000) n;
DO $$
BEGIN
    FOR n IN 1 .. 1000 LOOP
        BEGIN
            INSERT INTO many VALUES (100000 + n, 2);
            IF n % 2 = 0 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END
$$;
INSERT INTO many SELECT n, 3 FROM generate_series(50001, 100000) n;
COMMIT;
SELECT count(*), count(DISTINCT key), min(key::integer), max(key::integer), count(DISTINCT xid) AS transactions
FROM outbox.event WHERE id > :mark;
SELECT count(*) FROM (SELECT key, lag(id) OVER (ORDER BY id) AS before, id FROM outbox.event WHERE id > :mark) e
WHERE before >= id;
SELECT count(*) FROM many m FULL JOIN (SELECT * FROM outbox.event WHERE id > :mark) e ON e.key = m.id::text
WHERE e.data IS DISTINCT FROM jsonb_build_object('id', m.id);

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE item, sale, keyed, child, parent, doc, broken, many;
DROP FUNCTION events_since(bigint), shout(), follow(), measure();
