-- Events with deliver_at: in the log when they are due, and not before.
CREATE EXTENSION pg_outbox;
-- time, here simulated
CREATE FUNCTION pass(by interval) RETURNS void LANGUAGE sql AS
    $$ UPDATE outbox.schedule SET deliver_at = deliver_at - by $$;
CREATE VIEW waiting AS
    SELECT type, key, source, data, headers, correlation_id, causation_id, idempotency_key,
           deliver_at > scheduled_at AS in_the_future
    FROM outbox.scheduled ORDER BY deliver_at, id;
CREATE VIEW logged AS
    SELECT "position", type, key, source, operation, data, headers,
           CASE correlation_id WHEN id::text THEN 'own id' ELSE correlation_id END AS correlation_id, causation_id
    FROM outbox.read() ORDER BY "position";

-- what is due or past enters at once
SELECT outbox.publish('Now', deliver_at => now()) IS NOT NULL, outbox.publish('Past', deliver_at => 'yesterday') IS NOT NULL,
       outbox.publish('LongPast', deliver_at => '-infinity') IS NOT NULL, outbox.publish('Plain', deliver_at => NULL) IS NOT NULL;
SELECT * FROM waiting;

-- the rest waits, with all that it inherits
SELECT outbox.publish('Never', deliver_at => 'infinity');
SET application_name = 'shop';
SELECT outbox.publish('Bare', deliver_at => now() + '2 hours');
BEGIN;
SET LOCAL outbox.correlation_id = 'request';
SET LOCAL outbox.headers = '{"tenant": "acme", "a": 1}';
SET LOCAL outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SELECT outbox.publish('Full', '{"n": 1}', 'k', 'web', '{"a": 2}', deliver_at => now() + '1 hour');
COMMIT;
SELECT outbox.publish('Gone', deliver_at => now() + '1 hour') \gset
BEGIN;
SELECT outbox.publish('Gone', deliver_at => now() + '1 hour');
ROLLBACK;
SET application_name = 'other';
SET outbox.headers = '{"not": "inherited"}';
SET outbox.correlation_id = 'not inherited';
\pset null (null)
SELECT * FROM waiting;
\pset null ''
CALL outbox.run();
SELECT "position", type FROM logged;

-- arguments are checked when it is published
SELECT outbox.publish('*', deliver_at => now() + '1 hour');
SELECT outbox.publish('A', headers => '1', deliver_at => now() + '1 hour');
SELECT outbox.publish_many('[{"type": "A", "deliver_at": 4}]');
SELECT outbox.publish_many('[{"type": "A", "deliver_at": "soon"}]');
SELECT outbox.publish_many('[{"type": "A", "deliver_at": "infinity"}]');

-- a cancelled one never enters
SELECT outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE type = 'Gone';
SELECT outbox.cancel_scheduled(4711), outbox.cancel_scheduled(0);
SELECT outbox.cancel_scheduled(NULL);
BEGIN;
SELECT outbox.cancel_scheduled(id), outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE type = 'Full';
SELECT outbox.publish('Brief', deliver_at => now() + '1 hour');
SELECT outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE type = 'Brief';
SELECT type FROM waiting;
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.cancel_scheduled(1);
ROLLBACK;
SET ROLE pg_monitor;
SELECT outbox.cancel_scheduled(1);
SELECT * FROM outbox.scheduled;
RESET ROLE;

-- due: the time and transaction of the entry, everything else the publisher's
SELECT pass('1 hour 1 minute');
CREATE TEMP TABLE moment AS SELECT clock_timestamp() AS at, pg_current_xact_id() AS xid;
CALL outbox.run();
SELECT * FROM logged WHERE "position" > 4;
SELECT "time" > m.at AND e.xid > m.xid AS entry FROM outbox.event e, moment m WHERE type = 'Full';
SELECT type FROM waiting;
SELECT pass('1 hour');
CALL outbox.run();
SELECT * FROM logged WHERE "position" > 5;
-- once
CALL outbox.run();
SELECT count(*) FROM logged;

-- in the order of time, and of publishing where that is equal; many at once
RESET outbox.headers;
SELECT outbox.publish_many(jsonb_agg(jsonb_build_object('type', 'Many', 'key', (n % 3)::text, 'data', jsonb_build_object('n', n),
                                                        'deliver_at', now() + '1 hour' + (n % 3) * interval '1 minute') ORDER BY n))
FROM generate_series(1, 25000) n;
SELECT count(*) FROM outbox.scheduled;
SELECT pass('2 hours');
CALL outbox.run();
SELECT count(*), count(*) FILTER (WHERE (key::int, n) < (before_key::int, before_n)) AS out_of_order
FROM (SELECT key, (data->>'n')::int AS n, lag(key) OVER w AS before_key, lag((data->>'n')::int) OVER w AS before_n
      FROM outbox.read(max_events => 100000) WHERE type = 'Many' WINDOW w AS (ORDER BY "position")) e;
SELECT count(*) FROM outbox.scheduled;
-- values that are stored out of line
SELECT string_agg(md5(n::text), '') AS long FROM generate_series(1, 5000) n \gset
SELECT outbox.publish('Waits', jsonb_build_object('long', :'long'), deliver_at => now() + '1 hour');
SELECT pass('2 hours');
CALL outbox.run();
SELECT data->>'long' = :'long' AS same FROM outbox.event WHERE type = 'Waits';

-- a call can say what became of it, and which event it was
SELECT outcome, event_id IS NOT NULL AS has_event, scheduled_id FROM outbox.try_publish('Tried', idempotency_key => 'try');
SELECT t.outcome, t.event_id = e.id AS same, t.scheduled_id
FROM outbox.try_publish('Tried', idempotency_key => 'try', deliver_at => now() + '1 hour') t, outbox.event e WHERE e.type = 'Tried';
SELECT scheduled_id AS scheduled, outcome
FROM outbox.try_publish('Tried', '{"n": 1}', idempotency_key => 'later', deliver_at => now() + '1 hour') \gset
SELECT :'outcome' AS outcome, (SELECT data FROM outbox.scheduled WHERE id = :scheduled);
SELECT outcome, event_id, scheduled_id = :scheduled AS same FROM outbox.try_publish('Tried', idempotency_key => 'later');
SELECT number, outcome, event_id IS NOT NULL AS has_event, scheduled_id = :scheduled AS same
FROM outbox.try_publish_many('[{"type": "Tried"}, {"type": "Tried", "idempotency_key": "later"},
    {"type": "Tried", "idempotency_key": "try"}, {"type": "Tried", "deliver_at": "2999-12-31", "idempotency_key": "many"},
    {"type": "Tried", "idempotency_key": "many"}]');
SELECT outbox.try_publish(NULL);
SELECT outbox.try_publish_many('{}');
BEGIN READ ONLY;
SELECT outbox.try_publish('Tried');
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.try_publish_many('[]');
ROLLBACK;
-- cancelling frees the key, and a rollback takes it again
BEGIN;
SELECT outbox.cancel_scheduled(:scheduled);
SAVEPOINT s;
SELECT outcome FROM outbox.try_publish('Tried', '{"n": 2}', idempotency_key => 'later', deliver_at => now() + '1 hour');
SELECT outcome FROM outbox.try_publish('Tried', '{"n": 3}', idempotency_key => 'later');
ROLLBACK TO s;
SELECT outcome FROM outbox.try_publish('Tried', '{"n": 4}', idempotency_key => 'later');
ROLLBACK;
SELECT outcome, scheduled_id = :scheduled AS same FROM outbox.try_publish('Tried', '{"n": 5}', idempotency_key => 'later');
BEGIN;
SAVEPOINT s;
SELECT outbox.cancel_scheduled(:scheduled);
ROLLBACK TO s;
SELECT outcome FROM outbox.try_publish('Tried', '{"n": 6}', idempotency_key => 'later');
COMMIT;
SELECT outbox.cancel_scheduled(:scheduled);
SELECT outcome FROM outbox.try_publish('Tried', '{"n": 7}', idempotency_key => 'later');
SELECT data FROM outbox.event WHERE type = 'Tried' AND data ? 'n';
SELECT outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE idempotency_key = 'many';
-- under repeatable read: what the snapshot does not show is a serialization failure
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outcome FROM outbox.try_publish('Tried', idempotency_key => 'later');
SELECT outcome FROM outbox.try_publish('Tried', idempotency_key => 'own', deliver_at => now() + '1 hour');
SELECT outcome FROM outbox.try_publish('Tried', idempotency_key => 'own');
ROLLBACK;

-- however long an event waits, its key is taken until it enters; the window does not matter
SET outbox.idempotency_window = '1s';
SELECT outcome FROM outbox.try_publish('Patient', '{"n": 1}', idempotency_key => 'long', deliver_at => now() + '1 hour');
UPDATE outbox.schedule SET scheduled_at = scheduled_at - interval '10 years' WHERE type = 'Patient';
CALL outbox.run();
SELECT outcome FROM outbox.try_publish('Patient', '{"n": 2}', idempotency_key => 'long');
SELECT outbox.publish('Patient', '{"n": 3}', idempotency_key => 'long', deliver_at => now() + '2 hours');
UPDATE outbox.schedule SET deliver_at = now() WHERE type = 'Patient';
CALL outbox.run();
SELECT outcome FROM outbox.try_publish('Patient', '{"n": 4}', idempotency_key => 'long');
SELECT data FROM outbox.event WHERE type = 'Patient' ORDER BY id;
RESET outbox.idempotency_window;

-- with an idempotency key: no id until it has one, then that
SELECT outbox.publish('Keyed', '{"n": 1}', idempotency_key => 'a', deliver_at => now() + '1 hour');
SELECT outbox.publish('Keyed', '{"n": 2}', idempotency_key => 'a', deliver_at => now() + '3 hours'),
       outbox.publish('Keyed', '{"n": 3}', idempotency_key => 'a');
SELECT outbox.publish_many('[{"type": "Keyed", "idempotency_key": "a"}, {"type": "Keyed", "idempotency_key": "b", "deliver_at": "2999-12-31"}]');
SELECT type, data, idempotency_key FROM waiting;
SELECT pass('1 hour');
CALL outbox.run();
SELECT outbox.publish('Keyed', '{"n": 4}', idempotency_key => 'a') = id AS same, data
FROM outbox.event WHERE type = 'Keyed';
SELECT outbox.publish('Keyed', idempotency_key => 'a', deliver_at => 'infinity');
-- a cancelled one's key is free
SELECT outbox.cancel_scheduled(id) FROM outbox.scheduled WHERE type = 'Keyed';
SELECT outbox.publish('Keyed', idempotency_key => 'b') IS NOT NULL AS new;
SELECT count(*) FROM outbox.event WHERE type = 'Keyed';
-- past the window the key is free, once the event has entered
SELECT outbox.publish('Late', idempotency_key => 'c', deliver_at => now() + '30 days');
UPDATE outbox.seen_0 SET "time" = "time" - interval '8 days';
UPDATE outbox.schedule SET scheduled_at = scheduled_at - interval '8 days';
SELECT pass('30 days');
CALL outbox.run();
SELECT outbox.publish('Late', idempotency_key => 'c') > id AS new FROM outbox.event WHERE type = 'Late';

-- from a handler: its cause, correlation and headers, also when that is long over
RESET outbox.correlation_id;
CREATE FUNCTION remind(event outbox.event) RETURNS void LANGUAGE sql AS
    $$ SELECT outbox.publish('Reminder', key => event.key, deliver_at => now() + '1 day') $$;
SELECT outbox.subscribe('remind', '{OrderPlaced}', 'remind');
SELECT outbox.publish('OrderPlaced', key => '17', headers => '{"tenant": "acme"}') AS cause \gset
CALL outbox.run();
SELECT lag, delivered FROM outbox.status;
SELECT type, key, headers, correlation_id = :'cause' AS correlated, causation_id = :cause AS caused FROM outbox.scheduled;
SELECT pass('2 days');
CALL outbox.run();
SELECT type, key, headers, correlation_id = :'cause' AS correlated, causation_id = :cause AS caused FROM outbox.event WHERE type = 'Reminder';
-- the limit to causes holds when it is published, and counts on from it
CREATE OR REPLACE FUNCTION remind(event outbox.event) RETURNS void LANGUAGE sql AS
    $$ SELECT outbox.publish('OrderPlaced', key => event.key, deliver_at => now() + '1 day') $$;
SET outbox.max_depth = 2;
SELECT outbox.publish('OrderPlaced', key => '18') IS NOT NULL;
CALL outbox.run();
SELECT pass('2 days');
CALL outbox.run();
SELECT pass('2 days');
CALL outbox.run();
SELECT type, key, error FROM outbox.dead_letter;
SELECT count(*) FROM outbox.scheduled;
RESET outbox.max_depth;

-- a contract is checked when it is published, and not again
SELECT outbox.register_type('Strict', $$ data ? 'n' $$);
SELECT outbox.publish('Strict', deliver_at => now() + '1 hour');
SELECT outbox.publish('Strict', '{"n": 1}', deliver_at => now() + '1 hour');
SELECT outbox.register_type('Strict', $$ data ? 'm' $$);
SELECT pass('2 hours');
CALL outbox.run();
SELECT data FROM outbox.event WHERE type = 'Strict';
SELECT outbox.unregister_type('Strict');

-- rows that a restore has brought before the counters of ids wait for those
SELECT outbox.publish('Restored', deliver_at => now() + '1 hour');
SELECT pass('1 day');
SELECT last_value AS last FROM outbox.schedule_id_seq \gset
SELECT setval('outbox.schedule_id_seq', 1, false);
CALL outbox.run();
SELECT type FROM waiting;
SELECT setval('outbox.schedule_id_seq', :last) = :last AS same;
CALL outbox.run();
SELECT type FROM waiting;
SELECT count(*) FROM outbox.event WHERE type = 'Restored';

-- by its key: cancelled, or at another time
SELECT outbox.publish('Late', '{"a": 1}', 'k', idempotency_key => 'by-key', deliver_at => now() + '1 day') IS NULL AS scheduled;
SELECT outbox.reschedule('by-key', now() + '2 days'), outbox.reschedule('nobody''s', now());
SELECT type, data, key, idempotency_key, deliver_at > now() + '47 hours' AS later FROM outbox.scheduled WHERE type = 'Late';
SELECT outbox.reschedule('by-key', 'infinity');
SELECT outbox.reschedule('by-key', NULL);
SELECT outbox.publish('Late', idempotency_key => 'by-key') IS NULL AS taken;
SELECT outbox.reschedule('by-key', now() - '1 day'::interval);
CALL outbox.run();
SELECT type, data, key FROM outbox.event WHERE type = 'Late';
SELECT outbox.reschedule('by-key', now()), outbox.cancel_scheduled('by-key');
SELECT outbox.publish('Late', idempotency_key => 'other', deliver_at => now() + '1 day') IS NULL AS scheduled;
SELECT outbox.cancel_scheduled('other'), outbox.cancel_scheduled('other');
SELECT count(*) FROM outbox.scheduled WHERE type = 'Late';

DROP FUNCTION pass;
DROP VIEW waiting, logged;
DROP EXTENSION pg_outbox CASCADE;
