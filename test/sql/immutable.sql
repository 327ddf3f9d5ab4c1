-- Nobody changes the log by a statement (G9): whatever the role, the session's
-- replication role, the way to the table, and the partition.
CREATE EXTENSION pg_outbox;
SET outbox.partition_interval = '1s';
CALL outbox.run();
SELECT outbox.publish('Kept', to_jsonb(i), key => 'k') > 0 AS emitted FROM generate_series(1, 3) i;
SELECT pg_sleep(1.1);
SELECT outbox.publish('Kept', to_jsonb(i), key => 'k') > 0 AS emitted FROM generate_series(4, 6) i;
CALL outbox.run();
CREATE TEMP TABLE before AS SELECT * FROM outbox.event;

-- the log, its partitions, and what orders it
CREATE TEMP TABLE target AS
    SELECT 'outbox.event'::regclass AS relation
    UNION ALL SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'outbox.event'::regclass
    UNION ALL SELECT 'outbox.segment'::regclass;
SELECT count(*) > 10 AS many_partitions FROM target;

-- '55000' is what the log answers; only TRUNCATE ONLY of a partitioned table
-- is no statement at all
CREATE FUNCTION answer(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'done';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE command (name text, command text);
INSERT INTO command VALUES
    ('delete', 'DELETE FROM %s'),
    ('delete nothing', 'DELETE FROM %s WHERE false'),
    ('delete only', 'DELETE FROM ONLY %s'),
    ('delete in a CTE', 'WITH gone AS (DELETE FROM %s RETURNING *) SELECT * FROM gone'),
    ('update', 'UPDATE %s SET "time" = now()'),
    ('update nothing', 'UPDATE %s SET "time" = now() WHERE false'),
    ('update only', 'UPDATE ONLY %s SET "time" = now() - interval ''1 year'''),
    ('insert', 'INSERT INTO %1$s SELECT * FROM %1$s'),
    ('insert nothing', 'INSERT INTO %1$s SELECT * FROM %1$s WHERE false'),
    ('insert on conflict', 'INSERT INTO %1$s SELECT * FROM %1$s ON CONFLICT DO NOTHING'),
    ('insert in a CTE', 'WITH new AS (INSERT INTO %1$s SELECT * FROM %1$s RETURNING *) SELECT * FROM new'),
    ('truncate', 'TRUNCATE %s'),
    ('truncate only', 'TRUNCATE ONLY %s'),
    ('truncate cascade', 'TRUNCATE %s RESTART IDENTITY CASCADE'),
    ('copy', 'COPY %s FROM ''/dev/null''');
-- from 15 on
INSERT INTO command
SELECT name, command
FROM (VALUES
    ('merge', 'MERGE INTO %s t USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE'),
    ('merge update', 'MERGE INTO %s t USING (SELECT 1) s ON true WHEN MATCHED THEN UPDATE SET "time" = now()')) AS m (name, command)
WHERE current_setting('server_version_num')::integer >= 150000;

CREATE PROCEDURE try_all() LANGUAGE plpgsql AS $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT name, relation, answer(format(command, relation)) FROM command CROSS JOIN target LOOP
        IF c.answer <> '55000' AND NOT (c.answer = '42809' AND c.relation = 'outbox.event'::regclass AND c.name = 'truncate only') THEN
            RAISE WARNING '% on %: %', c.name, c.relation, c.answer;
        END IF;
    END LOOP;
END $$;
CALL try_all();
SET session_replication_role = replica;
CALL try_all();
SET session_replication_role = local;
CALL try_all();
RESET session_replication_role;

-- what it says
DELETE FROM outbox.event;
TRUNCATE outbox.segment;
DO $$ BEGIN DELETE FROM outbox.event; EXCEPTION WHEN object_not_in_prerequisite_state THEN RAISE NOTICE 'refused'; END $$;

-- through views, rules, triggers, functions, a cursor, inheritance from others
CREATE VIEW event_view AS SELECT * FROM outbox.event;
DELETE FROM event_view;
UPDATE event_view SET type = 'Changed';
INSERT INTO event_view SELECT * FROM event_view;
CREATE TABLE side (i integer);
CREATE RULE also_delete AS ON INSERT TO side DO ALSO DELETE FROM outbox.event;
INSERT INTO side VALUES (1);
DROP RULE also_delete ON side;
CREATE FUNCTION deletes() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN DELETE FROM outbox.event_default; DELETE FROM outbox.segment; RETURN NEW; END $$;
CREATE TRIGGER deletes BEFORE INSERT ON side FOR EACH ROW EXECUTE FUNCTION deletes();
INSERT INTO side VALUES (1);
COPY side FROM PROGRAM 'echo 1';
DROP TABLE side;
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM outbox.event FOR UPDATE;
FETCH 1 FROM c \g /dev/null
DELETE FROM outbox.event WHERE CURRENT OF c;
ROLLBACK;

-- through a foreign key that cascades
BEGIN;
CREATE TABLE parent (id bigint PRIMARY KEY);
INSERT INTO parent SELECT id FROM outbox.event;
ALTER TABLE outbox.event ADD FOREIGN KEY (id) REFERENCES parent ON DELETE CASCADE;
DELETE FROM parent;
ROLLBACK;

-- for every role that could
CREATE ROLE regress_outbox_owner;
CREATE ROLE regress_outbox_granted;
GRANT ALL ON outbox.event, outbox.segment, outbox.event_default TO regress_outbox_granted;
SET ROLE regress_outbox_granted;
DELETE FROM outbox.event;
TRUNCATE outbox.event;
COPY outbox.event FROM STDIN;
\.
INSERT INTO outbox.segment VALUES (100, 1, now(), '1:1:', NULL, NULL, NULL, NULL, 0, now(), '');
RESET ROLE;
BEGIN;
ALTER TABLE outbox.event OWNER TO regress_outbox_owner;
ALTER TABLE outbox.event_default OWNER TO regress_outbox_owner;
SET ROLE regress_outbox_owner;
DELETE FROM outbox.event;
ROLLBACK;
REVOKE ALL ON outbox.event, outbox.segment, outbox.event_default FROM regress_outbox_granted;
DROP ROLE regress_outbox_owner, regress_outbox_granted;

-- partitions that are made at run time are guarded as soon as they can be seen
SELECT count(*) AS unguarded
FROM pg_inherits i
WHERE inhparent = 'outbox.event'::regclass
  AND (SELECT count(*) FROM pg_trigger t
       WHERE t.tgrelid = i.inhrelid AND t.tgfoid = 'outbox.refuse_change'::regproc AND t.tgenabled = 'A') < 2;
-- and are nobody's but the log's
SELECT count(*) AS foreign_owned
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE inhparent = 'outbox.event'::regclass
  AND (c.relowner <> (SELECT relowner FROM pg_class WHERE oid = 'outbox.event'::regclass)
       OR EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner));

-- also after all its triggers were enabled as those of any table are
ALTER TABLE outbox.event ENABLE TRIGGER ALL;
SELECT count(*) AS open FROM pg_trigger
WHERE tgfoid = 'outbox.refuse_change'::regproc AND tgenabled <> 'A';

-- the columns of the extension's tables are what its code knows
ALTER TABLE outbox.segment ADD COLUMN note text;
ALTER TABLE outbox.event ADD COLUMN note text;
\set VERBOSITY terse
ALTER TABLE outbox.subscription ALTER COLUMN name TYPE varchar;
\set VERBOSITY default

-- the trigger function is of no other use
CREATE TABLE side (i integer);
SELECT outbox.refuse_change();
DROP TABLE side;

-- the ids' sequence is the log's own
SELECT seqcache, seqcycle, seqincrement FROM pg_sequence WHERE seqrelid = 'outbox.event_id_seq'::regclass;

-- nothing has changed
SELECT count(*) FROM outbox.event;
(TABLE before EXCEPT ALL TABLE outbox.event) UNION ALL (TABLE outbox.event EXCEPT ALL TABLE before);
SELECT "position", data FROM outbox.read();

DROP VIEW event_view;
DROP FUNCTION answer, deletes;
DROP PROCEDURE try_all;
DROP EXTENSION pg_outbox;

-- a log is loaded once
CREATE EXTENSION pg_outbox;
\set VERBOSITY terse
COPY outbox.event_default (id, xid, time, type, source, data, headers) FROM stdin;
1	3	2001-01-01	a	s	{}	{}
2	3	2001-01-01	a	s	{}	{}
\.
COPY outbox.event_default (id, xid, time, type, source, data, headers) FROM stdin;
1	3	2001-01-01	a	s	{}	{}
2	3	2001-01-01	a	s	{}	{}
\.
-- what comes by way of the log may meet in one partition
COPY outbox.event (id, xid, time, type, source, data, headers) FROM stdin;
3	3	2002-01-01	a	s	{}	{}
\.
SELECT id FROM outbox.event ORDER BY id;
DROP EXTENSION pg_outbox;

-- a segment that a superuser has mended is found
CREATE EXTENSION pg_outbox;
SELECT outbox.publish('first') IS NOT NULL AS published;
CALL outbox.run();
SELECT outbox.publish('second') IS NOT NULL AS published;
CALL outbox.run();
ALTER EVENT TRIGGER outbox_capture_follow_ddl DISABLE;
ALTER TABLE outbox.segment DISABLE TRIGGER refuse_change;
UPDATE outbox.segment SET time = time WHERE first_position = 2;
ALTER TABLE outbox.segment ENABLE ALWAYS TRIGGER refuse_change;
ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;
SELECT "position", type FROM outbox.read(after => 1);
SELECT "position", type FROM outbox.read();
DROP EXTENSION pg_outbox;
