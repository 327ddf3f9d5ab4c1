-- Idempotency keys and once(): the same thing is not done twice.
CREATE EXTENSION pg_outbox;
SET outbox.correlation_id = 'test';

-- the first event's id comes back, and nothing else is emitted or changed
SELECT outbox.publish('A', '{"n": 1}', idempotency_key => 'k1') AS first \gset
SELECT outbox.publish('B', '{"n": 2}', 'other', idempotency_key => 'k1') = :first AS same;
SELECT outbox.publish('C', idempotency_key => 'k2') <> :first AS another;
SELECT outbox.publish('D') IS NOT NULL, outbox.publish('D', idempotency_key => NULL) IS NOT NULL;
SELECT type, data, key FROM outbox.event ORDER BY id;

-- but what it is given is checked as ever
SELECT outbox.publish('*', idempotency_key => 'k1');
SELECT outbox.publish('A', headers => '[]', idempotency_key => 'k1');
SELECT outbox.publish('A', idempotency_key => '');
SELECT outbox.publish('A', idempotency_key => repeat('k', 2001));
SELECT outbox.publish('A', idempotency_key => repeat('k', 2000)) = outbox.publish('A', idempotency_key => repeat('k', 2000)) AS same;
SELECT outbox.publish('A', idempotency_key => repeat('k', 1999)) = outbox.publish('A', idempotency_key => repeat('k', 2000)) AS same;

-- in one transaction, one statement, one array
BEGIN;
SELECT outbox.publish('Once', idempotency_key => 'k3') = outbox.publish('Once', idempotency_key => 'k3') AS same;
SELECT count(DISTINCT outbox.publish('Once', idempotency_key => 'k3')) FROM generate_series(1, 10);
SELECT outbox.publish_many('[{"type": "Once", "idempotency_key": "k3"}, {"type": "Once", "idempotency_key": "k4"},
                             {"type": "Once", "idempotency_key": "k4"}, {"type": "Once", "idempotency_key": null}]');
COMMIT;
SELECT count(*) FROM outbox.event WHERE type = 'Once';
SELECT outbox.publish_many('[{"type": "Once", "idempotency_key": 4}]');
SELECT outbox.publish_many('[{"type": "Once", "idempotency_key": ""}]');
SELECT outbox.publish_many('[{"type": "Once", "idempotency_key": "k5"}, {"type": ""}]');
SELECT outbox.publish_many('[{"type": "Once", "idempotency_key": "k5"}]');

-- a rollback frees the key, also to a savepoint, also of a block
BEGIN;
SELECT outbox.publish('Gone', idempotency_key => 'k6') IS NOT NULL;
ROLLBACK;
BEGIN;
SAVEPOINT a;
SELECT outbox.publish('Gone', idempotency_key => 'k6') AS gone \gset
ROLLBACK TO a;
DO $$
BEGIN
    PERFORM outbox.publish('Gone', idempotency_key => 'k6');
    RAISE 'no';
EXCEPTION WHEN raise_exception THEN
END
$$;
SELECT outbox.publish('Stays', idempotency_key => 'k6') > :gone AS new;
SAVEPOINT b;
SELECT outbox.publish('Gone', idempotency_key => 'k7') IS NOT NULL;
RELEASE b;
COMMIT;
SELECT type FROM outbox.event WHERE type IN ('Gone', 'Stays') ORDER BY id;
SELECT outbox.publish('Gone', idempotency_key => 'k7') = id AS same FROM outbox.event WHERE type = 'Gone';

-- captured rows that publish with a key, at the end of a statement
CREATE TABLE orders (id int PRIMARY KEY);
CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM outbox.publish('Announced', idempotency_key => 'day'); RETURN NULL; END $$;
CREATE TRIGGER announce AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION announce();
SELECT outbox.capture('orders');
INSERT INTO orders SELECT generate_series(1, 10);
SELECT type, count(*) FROM outbox.event WHERE type IN ('Announced', 'orders.inserted') GROUP BY type ORDER BY type;

-- a snapshot that does not show the first use
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT outbox.publish('R', idempotency_key => 'k8') = outbox.publish('R', idempotency_key => 'k8') AS same;
SELECT outbox.publish('R', idempotency_key => 'k1') = :first AS same;
COMMIT;
BEGIN READ ONLY;
SELECT outbox.publish('R', idempotency_key => 'k9');
ROLLBACK;

-- once: true the first time only, for each consumer
SELECT outbox.once('mail', 1), outbox.once('mail', 1), outbox.once('mail', 2), outbox.once('sms', 1);
BEGIN;
SELECT outbox.once('mail', 3), outbox.once('mail', 1);
ROLLBACK;
SELECT outbox.once('mail', 3), outbox.once('mail', 3);
-- not the same as an idempotency key
SELECT outbox.publish('K', idempotency_key => '1') IS NOT NULL;
SELECT outbox.once(NULL, 1);
SELECT outbox.once('mail', NULL);
SELECT outbox.once('', 1);
SELECT outbox.once(repeat('m', 201), 1);
SELECT outbox.once('mail', 0);
BEGIN READ ONLY;
SELECT outbox.once('mail', 4);
ROLLBACK;
SET ROLE pg_monitor;
SELECT outbox.once('mail', 1);
RESET ROLE;

-- Time, here simulated by making rows older.
CREATE FUNCTION make_older(by interval) RETURNS void LANGUAGE sql AS $$
    UPDATE outbox.seen_0 SET "time" = "time" - by;
    UPDATE outbox.seen_1 SET "time" = "time" - by;
    UPDATE outbox.seen_2 SET "time" = "time" - by;
    UPDATE outbox.seen_turn SET sealed_at = sealed_at - by;
$$;
CREATE VIEW seen AS
    SELECT 0 AS n, * FROM outbox.seen_0 UNION ALL SELECT 1, * FROM outbox.seen_1 UNION ALL SELECT 2, * FROM outbox.seen_2;
CREATE VIEW stored AS
    SELECT (SELECT coalesce(max(turn), 0) FROM outbox.seen_turn) AS turn,
           ARRAY[(SELECT count(*) FROM outbox.seen_0), (SELECT count(*) FROM outbox.seen_1), (SELECT count(*) FROM outbox.seen_2)] AS rows,
           ARRAY(SELECT turn FROM outbox.seen_turn WHERE sealed_at IS NOT NULL ORDER BY turn) AS sealed;

-- past the window a key is new, also while it is still stored
SELECT make_older('6 days 23 hours');
SELECT outbox.publish('A', idempotency_key => 'k1') = :first AS same, outbox.once('mail', 1);
SELECT make_older('1 hour 1 second');
SELECT outbox.publish('A', idempotency_key => 'k1') AS second \gset
SELECT :second > :first AS new, outbox.publish('A', idempotency_key => 'k1') = :second AS same;
SELECT outbox.once('mail', 1), outbox.once('mail', 1);
SELECT count(*) FROM seen WHERE key = 'k1';
-- as long as the setting says
SET outbox.idempotency_window = '10d';
SELECT outbox.publish('A', idempotency_key => 'k1') = :first AS same;
RESET outbox.idempotency_window;
SELECT outbox.publish('A', idempotency_key => 'k1') = :second AS same;

-- a turn is half a window, at least
TRUNCATE outbox.seen_0;
CALL outbox.run();
SELECT * FROM stored;
SELECT outbox.publish('T', idempotency_key => 't0') AS t0 \gset
CALL outbox.run();
SELECT * FROM stored;
SELECT make_older('4 days');
CALL outbox.run();
SELECT * FROM stored;
SELECT outbox.publish('T', idempotency_key => 't0') = :t0 AS same;
SELECT outbox.publish('T', idempotency_key => 't1') AS t1 \gset
SELECT * FROM stored;
CALL outbox.run();
SELECT * FROM stored;
-- a row past the window counts no more, and its table goes when its seal is past it
SELECT make_older('3 days 23 hours');
CALL outbox.run();
SELECT * FROM stored;
SELECT outbox.publish('T', idempotency_key => 't0') = :t0 AS same, outbox.publish('T', idempotency_key => 't1') = :t1 AS same;
SELECT make_older('4 days');
CALL outbox.run();
SELECT * FROM stored;
-- once all are used, the next turn needs the oldest one's table
SELECT outbox.publish('T', idempotency_key => 't' || n) IS NOT NULL FROM generate_series(2, 4) n;
SELECT make_older('4 days');
CALL outbox.run();
SELECT * FROM stored;
SELECT make_older('4 days');
CALL outbox.run();
CALL outbox.run();
SELECT * FROM stored;
-- an idle database turns no further, and keeps nothing
SELECT make_older('30 days');
CALL outbox.run();
SELECT make_older('30 days');
CALL outbox.run();
CALL outbox.run();
SELECT make_older('30 days');
CALL outbox.run();
SELECT * FROM stored;
SELECT make_older('30 days');
CALL outbox.run();
SELECT * FROM stored;

DROP TABLE orders;
DROP FUNCTION announce, make_older;
DROP VIEW seen, stored;
DROP EXTENSION pg_outbox;
