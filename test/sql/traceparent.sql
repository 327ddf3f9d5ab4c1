-- The trace context of an event: from the setting, else from a comment of the
-- client's statement in the form of sqlcommenter, else from the event handled.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA trace;
SET search_path = trace;

CREATE FUNCTION emit(what text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- a comment in here is not the client's
    PERFORM outbox.publish('T', key => what) /*traceparent='00-0000000000000000000000000000000f-000000000000000f-01'*/;
END $$;
CREATE VIEW found AS
    SELECT id, type, key, substr(headers->>'traceparent', 33, 3) AS trace, headers - 'traceparent' AS other_headers
    FROM outbox.event ORDER BY id;
-- the statements differ in the end of the trace id
SELECT emit('none');
SELECT emit('at the end') /*traceparent='00-00000000000000000000000000000001-000000000000000a-01'*/;
/*traceparent='00-00000000000000000000000000000002-000000000000000a-01'*/ SELECT emit('at the start');
SELECT emit('with others, encoded') /*action='%2Fparam*d',controller='index',traceparent='00%2d00000000000000000000000000000003%2d000000000000000a%2D01',x='it\'s, =',db_driver='pg%3A1' */ ;
SELECT emit('among others') /* of the application */ /*traceparent='00-00000000000000000000000000000004-000000000000000a-01'*/ /* and another */;
/* an application's *//*traceparent='00-00000000000000000000000000000005-000000000000000a-01'*/ /* and another */ SELECT emit('among others, in front');
/*traceparent='00-00000000000000000000000000000006-000000000000000a-01'*/ SELECT emit('the last one') /*traceparent='00-00000000000000000000000000000007-000000000000000a-01'*/;
SELECT emit('a later version') /*traceparent='cc-00000000000000000000000000000008-000000000000000a-01-more'*/;
SELECT key, trace, other_headers FROM found;

-- each statement has its own, within one message and one transaction, too
SELECT max(id) AS last FROM outbox.event \gset
-- of results of one message, before 15 only the last is shown
\o /dev/null
SELECT emit('first') /*traceparent='00-00000000000000000000000000000011-000000000000000a-01'*/\; SELECT emit('second')\; SELECT emit('third') /*traceparent='00-00000000000000000000000000000013-000000000000000a-01'*/;
\o
BEGIN;
SELECT emit('fourth') /*traceparent='00-00000000000000000000000000000014-000000000000000a-01'*/;
SELECT emit('fifth');
COMMIT;
\o /dev/null
SELECT emit('sixth')\; /*traceparent='00-00000000000000000000000000000016-000000000000000a-01'*/
SELECT emit('seventh') \;  /*traceparent='00-00000000000000000000000000000017-000000000000000a-01'*/
;
\o
SELECT emit('eighth') FROM generate_series(1, 2) /*traceparent='00-00000000000000000000000000000018-000000000000000a-01'*/;
SELECT key, trace FROM found WHERE id > :last;

-- malformed ones, and what only looks like one
SELECT max(id) AS last FROM outbox.event \gset
SELECT emit('all zero') /*traceparent='00-00000000000000000000000000000000-000000000000000a-01'*/;
SELECT emit('no parent') /*traceparent='00-00000000000000000000000000000001-0000000000000000-01'*/;
SELECT emit('upper case') /*traceparent='00-0000000000000000000000000000000A-000000000000000a-01'*/;
SELECT emit('short') /*traceparent='00-0000000000000000000000000000001-000000000000000a-01'*/;
SELECT emit('long') /*traceparent='00-00000000000000000000000000000001-000000000000000a-01-x'*/;
SELECT emit('version ff') /*traceparent='ff-00000000000000000000000000000001-000000000000000a-01'*/;
SELECT emit('bad percent') /*traceparent='00%2-00000000000000000000000000000001-000000000000000a-01'*/;
SELECT emit('not quoted') /*traceparent=00-00000000000000000000000000000001-000000000000000a-01*/;
SELECT emit('not closed') /*traceparent='00-00000000000000000000000000000001-000000000000000a-01*/;
SELECT emit('prose') /* see traceparent='00-00000000000000000000000000000001-000000000000000a-01' */;
SELECT emit('another key') /*xtraceparent='00-00000000000000000000000000000001-000000000000000a-01'*/;
SELECT emit('junk behind') /*traceparent='00-00000000000000000000000000000001-000000000000000a-01'x*/;
SELECT emit('empty') /**/;
SELECT emit('opened twice') /*/*traceparent='00-00000000000000000000000000000001-000000000000000a-01'*/*/;
SELECT emit('/*traceparent=''00-00000000000000000000000000000001-000000000000000a-01''*/');
SELECT emit($$in a literal /*traceparent='00-00000000000000000000000000000001-000000000000000a-01'*/$$);
SELECT emit('in the middle') /*traceparent='00-00000000000000000000000000000001-000000000000000a-01'*/ WHERE true;
SELECT count(*), count(trace) AS traced FROM found WHERE id > :last;

-- captured changes, whose rows come by the thousand; PREPARE and EXECUTE; deferred triggers
CREATE TABLE item (id integer PRIMARY KEY);
SELECT outbox.capture('item', operations => '{insert}');
INSERT INTO item SELECT generate_series(1, 3000) /*traceparent='00-00000000000000000000000000000021-000000000000000a-01'*/;
PREPARE more AS INSERT INTO item VALUES ($1) /*traceparent='00-00000000000000000000000000000022-000000000000000a-01'*/;
EXECUTE more (5000);
EXECUTE more (5001) /*traceparent='00-00000000000000000000000000000023-000000000000000a-01'*/;
COPY item FROM stdin /*traceparent='00-00000000000000000000000000000024-000000000000000a-01'*/;
6000
6001
\.
DO $$ BEGIN FOR i IN 7000..7002 LOOP INSERT INTO trace.item VALUES (i); END LOOP; END $$ /*traceparent='00-00000000000000000000000000000025-000000000000000a-01'*/;
-- within a cursor's query, it is still the client's statement that counts
CREATE FUNCTION by_cursor() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT outbox.publish('item.cursor') /*traceparent='00-0000000000000000000000000000000f-000000000000000f-01'*/ FROM generate_series(1, 2) LOOP
        PERFORM outbox.publish('item.cursor');
    END LOOP;
END $$;
SELECT by_cursor() /*traceparent='00-00000000000000000000000000000026-000000000000000a-01'*/;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM outbox.publish('item.late');
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
BEGIN;
INSERT INTO item VALUES (8000) /*traceparent='00-00000000000000000000000000000027-000000000000000a-01'*/;
COMMIT /*traceparent='00-00000000000000000000000000000028-000000000000000a-01'*/;
SELECT type, substr(headers->>'traceparent', 33, 3) AS trace, count(*)
FROM outbox.event WHERE type LIKE 'item.%' GROUP BY 1, 2 ORDER BY 2, 1;
DROP TRIGGER late ON item;

-- bytes that are no text, in a comment that a later version could have, are none
SELECT outbox.publish('W', key => 'suffix') > 0 AS emitted /*traceparent='01-00000000000000000000000000000051-000000000000000a-01-more'*/;
SELECT outbox.publish('W', key => 'bytes') > 0 AS emitted /*traceparent='01-00000000000000000000000000000052-000000000000000a-01-%FF%C3'*/;
SELECT outbox.publish('W', key => 'control') > 0 AS emitted /*traceparent='01-00000000000000000000000000000053-000000000000000a-01-%0A'*/;
SELECT outbox.publish('W', key => 'zero') > 0 AS emitted /*traceparent='00-00000000000000000000000000000054-000000000000000a-01%00x'*/;
SELECT outbox.publish('W', key => 'unicode') > 0 AS emitted /*traceparent='01-00000000000000000000000000000055-000000000000000a-01-é'*/;
SET outbox.traceparent = '01-00000000000000000000000000000056-000000000000000a-01-é';
SELECT key, headers FROM outbox.event WHERE type = 'W' ORDER BY id;

-- the setting wins, and then what is given for the event
SET outbox.traceparent = '00-00000000000000000000000000000031-000000000000000a-01';
SELECT outbox.publish('U', key => 'setting') > 0 AS emitted /*traceparent='00-00000000000000000000000000000032-000000000000000a-01'*/;
RESET outbox.traceparent;
SET outbox.headers = '{"tenant": "acme"}';
SELECT outbox.publish('U', key => 'with headers', headers => '{"own": 1}') > 0 AS emitted /*traceparent='00-00000000000000000000000000000033-000000000000000a-01'*/;
SELECT outbox.publish('U', key => 'own', headers => '{"traceparent": "00-00000000000000000000000000000035-000000000000000a-01"}') > 0 AS emitted /*traceparent='00-00000000000000000000000000000034-000000000000000a-01'*/;
RESET outbox.headers;
SELECT key, trace, other_headers FROM found WHERE type = 'U';

-- a handler hands down what its event has, whatever statement runs it
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT outbox.publish('V', key => e.key || ', handled') $$;
CREATE FUNCTION handle(e outbox.event[]) RETURNS void LANGUAGE sql AS $$ SELECT outbox.publish('V', key => 'batch') $$;
SELECT outbox.subscribe('handle', '{U}', handler => 'handle(outbox.event)', start => 'beginning');
SELECT outbox.subscribe('batch', '{U}', handler => 'handle(outbox.event[])', start => 'beginning');
SELECT outbox.publish('U', key => 'no trace') > 0 AS emitted;
CALL outbox.run() /*traceparent='00-00000000000000000000000000000041-000000000000000a-01'*/;
SELECT key, trace, other_headers FROM found WHERE type = 'V' ORDER BY key;

RESET search_path;
\set VERBOSITY terse
DROP SCHEMA trace CASCADE;
DROP EXTENSION pg_outbox;
