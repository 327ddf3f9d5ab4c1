-- The log: emitting events, what they inherit, their order and reading them.
CREATE EXTENSION pg_outbox;
SET application_name = 'log';
SET TimeZone = 'UTC';
SET outbox.partition_interval = '1s';

-- what a refusal says
CREATE FUNCTION refusal(command text) RETURNS TABLE (state text, message text, detail text, hint text)
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    state := 'none';
    RETURN NEXT;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN NEXT;
END
$$;

-- an empty log
SELECT outbox.head(), outbox.oldest(), outbox.position_of(1);
SELECT * FROM outbox.read();
CALL outbox.run();
SELECT outbox.head(), outbox.oldest();

-- one event
SELECT outbox.publish('OrderPlaced');
SELECT id, type, source, key, operation, data, old, headers, correlation_id, causation_id
FROM outbox.event;
SELECT "time" BETWEEN now() - interval '1 minute' AND clock_timestamp() AS recent
FROM outbox.event;
SELECT outbox.head(), outbox.position_of(1);
CALL outbox.run();
SELECT outbox.head(), outbox.oldest(), outbox.position_of(1);

-- everything that can be said, by position and by name
SELECT outbox.publish('Full', '{"a": [1, {"b": null}]}', 'key 1', 'shop', '{"tenant": "acme"}');
SELECT outbox.publish(type => 'Named', key => 'k', headers => '{"h": 1}', source => 's', data => '[]');
SELECT outbox.publish('Scalars', '"text"'), outbox.publish('Scalars', 'null'), outbox.publish('Scalars', '17');
SELECT outbox.publish('Explicit NULLs', '{}', NULL, NULL, '{}', NULL, NULL);
SELECT id, type, source, key, data, headers FROM outbox.event WHERE id > 1 ORDER BY id;

-- the source: the argument, else application_name, else the session's user
RESET application_name;
SET application_name = '';
SELECT outbox.publish('Source');
SET application_name = 'log';
SELECT source = session_user AS by_user FROM outbox.event WHERE type = 'Source';

-- what is refused
SELECT * FROM refusal($$ SELECT outbox.publish(NULL) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('a*') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish(repeat('x', 201)) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('x', headers => '[]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('x', headers => '"text"') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('x', headers => 'null') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('x', source => repeat('x', 201)) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish('x', key => repeat('x', 2001)) $$) \gx
-- limits are in bytes
SELECT * FROM refusal(format('SELECT outbox.publish(%L)', repeat('ö', 101))) \gx

-- at the limits
SELECT outbox.publish(repeat('x', 200), key => repeat('k', 2000), source => repeat('s', 200)) > 0 AS emitted;
SELECT outbox.publish('Empty', key => '', source => '') > 0 AS emitted;

-- nothing is emitted where nothing may be written
BEGIN READ ONLY;
SELECT outbox.publish('x');
ROLLBACK;

-- many
SELECT outbox.publish_many('[]');
SELECT outbox.publish_many('[
    {"type": "Many", "key": "1", "data": {"n": 1}, "headers": {"h": 1}, "source": "import"},
    {"type": "Many"},
    {"type": "Many", "key": null, "source": null, "data": null,
     "idempotency_key": null, "deliver_at": null}]');
SELECT source, key, data, headers FROM outbox.event WHERE type = 'Many' ORDER BY id;
SELECT * FROM refusal($$ SELECT outbox.publish_many(NULL) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('{}') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('17') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[17]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[[]]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[null]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": "Refused"}, {}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": null}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": 17}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": "a*"}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": "x", "key": 1}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": "x", "source": {}}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": "x", "headers": 1}]') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.publish_many('[{"type": "Refused"}, {"type": "x", "kez": "1"}]') $$) \gx
SELECT count(*) FROM outbox.event WHERE type = 'Refused';

-- correlation, trace and headers of the session and of the transaction
SHOW outbox.correlation_id;
SET outbox.correlation_id = 'session';
SET outbox.headers = '{"tenant": "acme", "user": 7}';
SET outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SELECT outbox.publish('Settings', headers => '{"user": 8, "own": true}');
BEGIN;
SET LOCAL outbox.correlation_id = 'transaction';
SET LOCAL outbox.headers = '';
SET LOCAL outbox.traceparent = '';
SELECT outbox.publish('Settings');
COMMIT;
SELECT outbox.publish_many('[{"type": "Settings", "headers": {"traceparent": "own"}}]');
RESET outbox.correlation_id;
RESET outbox.headers;
RESET outbox.traceparent;
SELECT outbox.publish('Settings') AS id \gset
SELECT correlation_id = :'id' AS own_id, causation_id, headers FROM outbox.event WHERE id = :id;
SELECT correlation_id, headers FROM outbox.event WHERE type = 'Settings' AND id < :id ORDER BY id;
SET outbox.headers = '[]';
SET outbox.headers = '{"a":';
SET outbox.headers = '17';
SET outbox.traceparent = 'nonsense';
SET outbox.traceparent = '00-00000000000000000000000000000000-00f067aa0ba902b7-01';
SET outbox.traceparent = '00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01';
SET outbox.traceparent = 'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
-- from 15 on
DO $$
BEGIN
    SET LOCAL outbox.no_such_setting = 1;
    ASSERT current_setting('server_version_num')::integer < 150000, 'the prefix is not reserved';
EXCEPTION WHEN invalid_name THEN
END $$;

-- only what commits is an event
CALL outbox.run();
SELECT outbox.head() AS head \gset
BEGIN;
SELECT outbox.publish('Gone') > 0 AS emitted;
ROLLBACK;
BEGIN;
SELECT outbox.publish('Kept', '1') > 0 AS emitted;
SAVEPOINT a;
SELECT outbox.publish('Gone') > 0 AS emitted;
SAVEPOINT b;
SELECT outbox.publish('Gone') > 0 AS emitted;
RELEASE b;
ROLLBACK TO a;
SELECT outbox.publish('Kept', '2') > 0 AS emitted;
SAVEPOINT c;
SELECT outbox.publish('Kept', '3') > 0 AS emitted;
RELEASE c;
RELEASE a;
SELECT count(DISTINCT xid) FROM outbox.event WHERE type = 'Kept';
COMMIT;
DO $$
BEGIN
    PERFORM outbox.publish('Kept', '4');
    BEGIN
        PERFORM outbox.publish('Gone');
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN
        PERFORM outbox.publish('Kept', '5');
    END;
END
$$;
DO $$ BEGIN PERFORM outbox.publish('Gone'); RAISE 'no'; END $$;
DO $$ BEGIN PERFORM outbox.publish('Kept', '6'); COMMIT; PERFORM outbox.publish('Gone'); ROLLBACK; END $$;
CALL outbox.run();
SELECT "position" - :head AS "position", type, data FROM outbox.read(:head);

-- more open subtransactions than a backend shows of itself
DO $$
BEGIN
    FOR i IN 1..200 LOOP
        BEGIN
            PERFORM outbox.publish('Nested', to_jsonb(i));
            IF i % 2 = 0 THEN
                RAISE division_by_zero;
            END IF;
        EXCEPTION WHEN division_by_zero THEN
            NULL;
        END;
    END LOOP;
END
$$;
CALL outbox.run();
SELECT count(*), count(DISTINCT xid), min("position") - :head AS first, max("position") - :head AS last,
       array_agg(data::integer ORDER BY "position") = array_agg(data::integer ORDER BY id) AS in_order
FROM outbox.read(:head) WHERE type = 'Nested';

-- many events in one transaction, by one statement and by many
SELECT outbox.head() AS head \gset
SELECT count(outbox.publish('Bulk', to_jsonb(i), key => (i % 7)::text)) FROM generate_series(1, 5000) i;
SELECT outbox.publish_many((SELECT jsonb_agg(jsonb_build_object('type', 'Bulk', 'data', i))
                            FROM generate_series(5001, 10000) i));
DO $$ BEGIN FOR i IN 10001..12000 LOOP PERFORM outbox.publish('Bulk', to_jsonb(i)); END LOOP; END $$;
CALL outbox.run();
SELECT count(*), min("position") - :head AS first, max("position") - :head AS last,
       count(DISTINCT xid) AS transactions,
       bool_and(data::bigint = "position" - :head) AS in_order
FROM outbox.read(:head, 20000);
-- reading on from anywhere in it
SELECT n, (SELECT array_agg("position" - :head ORDER BY "position") FROM outbox.read(:head + n, 3)) AS positions
FROM unnest('{0,1,4998,4999,5000,9998,11997,11999,12000}'::integer[]) n;
SELECT outbox.position_of(id) = "position" AS right_position, count(*)
FROM outbox.read(:head, 20000) WHERE "position" % 997 = 0 GROUP BY 1;

-- reading
SELECT "position" - :head AS "position", data FROM outbox.read(:head, 2);
SELECT count(*) FROM outbox.read(:head, 0);
SELECT count(*) FROM outbox.read(outbox.head());
SELECT count(*) FROM outbox.read(outbox.head() + 1000);
SELECT "position", type FROM outbox.read(types => '{Full,Named}');
SELECT type, count(*) FROM outbox.read(max_events => 100, types => '{*ed,S*r*}') GROUP BY type ORDER BY type COLLATE "C";
SELECT count(*) FROM outbox.read(types => '{bulk}');
SELECT * FROM refusal($$ SELECT outbox.read(-1) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.read(0, -1) $$) \gx
SELECT * FROM refusal($$ SELECT outbox.read(0, 1, '{}') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.read(0, 1, '{NULL}') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.read(0, 1, '{""}') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.read(0, 1, '{{a,b},{c,d}}') $$) \gx
SELECT * FROM refusal($$ SELECT outbox.position_of(NULL) $$) \gx
SELECT outbox.position_of(0), outbox.position_of(-1), outbox.position_of(9223372036854775807);

-- a transaction sees its own events in the table, not yet in the order
BEGIN;
SELECT outbox.publish('Own') AS id \gset
SELECT count(*) FROM outbox.event WHERE id = :id;
SELECT outbox.position_of(:id);
COMMIT;
CALL outbox.run();
SELECT outbox.position_of(:id) = outbox.head() AS last;

-- a snapshot that is kept reads the same again
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM outbox.read(outbox.head());
SELECT outbox.publish('Later') > 0 AS emitted;
SELECT count(*) FROM outbox.read(outbox.head());
COMMIT;

-- large data, which goes out of line
SELECT outbox.publish('Large', to_jsonb(repeat('0123456789', 300000)), headers => jsonb_build_object('h', repeat('y', 100000)));
SELECT outbox.publish('Large', to_jsonb(string_agg(md5(i::text), ''))) FROM generate_series(1, 30000) i;
SELECT outbox.publish_many(jsonb_agg(jsonb_build_object('type', 'Large', 'data', repeat(md5(i::text), 20000))))
FROM generate_series(1, 5) i;
CALL outbox.run();
SELECT length(data::text), md5(data::text), length(headers::text) FROM outbox.read(max_events => 100000, types => '{Large}');

-- events of one transaction in several partitions
CALL outbox.run();
SELECT outbox.head() AS head \gset
BEGIN;
SELECT outbox.publish('Spread', '1') > 0 AS emitted;
SELECT pg_sleep(1.1);
SELECT outbox.publish('Spread', '2') > 0 AS emitted, outbox.publish('Spread', '3') > 0 AS emitted;
SELECT pg_sleep(1.1);
SELECT outbox.publish('Spread', '4') > 0 AS emitted;
COMMIT;
CALL outbox.run();
SELECT count(DISTINCT tableoid) > 1 AS spread FROM outbox.event WHERE type = 'Spread';
SELECT "position" - :head AS "position", data FROM outbox.read(:head);
SELECT "position" - :head AS "position", data FROM outbox.read(:head + 2);
SELECT data FROM outbox.event WHERE type = 'Spread' AND outbox.position_of(id) = :head + 3;

-- every event is read once, and positions have no gap
SELECT count(*) = (SELECT count(*) FROM outbox.event WHERE type <> 'x') AS all_read,
       count(*) = max("position") AS dense, count(DISTINCT id) = count(*) AS once
FROM outbox.read(max_events => 1000000);
SELECT outbox.oldest(), outbox.head() = count(*) AS head FROM outbox.event;

-- all texts of an event are bounded, wherever they come from
\set correlation `printf '%010001d' 0`
\set headers `printf '{"n": "%01000000d"}' 0`
\set VERBOSITY sqlstate
SET outbox.correlation_id = :'correlation';
SET outbox.headers = :'headers';
\set VERBOSITY default
SELECT outbox.publish('T', headers => jsonb_build_object('n', repeat('0', 1000000)));
SELECT outbox.publish('T', headers => jsonb_build_object('n', repeat('0', 1000000)), deliver_at => now() + '1 hour');
SELECT outbox.publish_many(jsonb_build_array(jsonb_build_object('type', 'T', 'headers', jsonb_build_object('n', repeat('0', 1000000)))));
BEGIN;
SET LOCAL outbox.headers = '{"tenant": "acme"}';
SELECT outbox.publish('T', headers => jsonb_build_object('n', repeat('0', 999980)));
ROLLBACK;
BEGIN;
SELECT outbox.publish('T', headers => jsonb_build_object('n', repeat('0', 999980))) > 0 AS fits;
ROLLBACK;

-- NULL means the default
SELECT (SELECT count(*) FROM outbox.read(NULL, NULL, NULL, NULL)) = (SELECT count(*) FROM outbox.read()) AS same;
-- strict, while everything is kept
SELECT count(*) > 0 AS some FROM outbox.read(strict => true);
SELECT count(*) FROM outbox.read(outbox.head(), strict => true);
SELECT generation, first_id, first_position, "time" <= now() AS past FROM outbox.generations();

DROP FUNCTION refusal;
DROP EXTENSION pg_outbox;
