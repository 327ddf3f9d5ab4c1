-- outbox.seek(): where to, what it drops, and what counts as a replay.
CREATE EXTENSION pg_outbox;

CREATE TABLE broken (what text);
CREATE TABLE effect (n serial, position bigint, what text, replay boolean, attempt integer);
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    IF EXISTS (SELECT FROM broken b WHERE b.what = e.data->>'what') THEN
        RAISE '% fails', e.data->>'what';
    END IF;
    INSERT INTO effect (position, what, replay, attempt)
    VALUES (outbox.current_position(), e.data->>'what', outbox.is_replay(), outbox.current_attempt());
END
$$;
CREATE FUNCTION emit(key text, VARIADIC what text[]) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(outbox.publish('t', jsonb_build_object('what', w), key => emit.key)) FROM unnest(what) w $$;
CREATE VIEW state AS
SELECT d.position, d.state, d.open, d.attempts, d.error FROM outbox.delivery d ORDER BY d.position;

-- exactly one of two, and what is kept
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 1);
SELECT outbox.seek('s');
SELECT outbox.seek('s', 1, now());
SELECT outbox.seek('s', 0);
SELECT outbox.seek('s', 2);
SELECT outbox.seek('s', 1);
SELECT outbox.seek('nobody', 1);
SELECT emit('a', 'a1', 'a2'), emit('b', 'b1');
CALL outbox.run();
SELECT outbox.seek('s', 5);
SELECT outbox.seek('s', -1);

-- back: what was delivered is delivered again as a replay, what comes then is not
SELECT outbox.seek('s', 2);
SELECT emit('a', 'a3');
CALL outbox.run();
SELECT position, what, replay FROM effect ORDER BY n;
SELECT name, position, delivered FROM outbox.status;

-- in the middle of a replay, and to a time
TRUNCATE effect;
SELECT outbox.seek('s', to_time => '-infinity');
CALL outbox.run(2);
SELECT outbox.seek('s', to_position => 1);
CALL outbox.run();
SELECT position, what, replay FROM effect ORDER BY n;
SELECT outbox.seek('s', to_time => now() + interval '1 day');
SELECT outbox.seek('s', to_time => 'infinity');
SELECT outbox.seek('s', to_time => time) FROM outbox.segment ORDER BY first_position DESC LIMIT 1;

-- forward: what is leapt over has not been delivered, when one comes back to it
TRUNCATE effect;
SELECT outbox.seek('s', 5);
SELECT emit('a', 'a4', 'a5', 'a6');
SELECT outbox.pause('s');
CALL outbox.run();
SELECT outbox.seek('s', 7), outbox.resume('s');
CALL outbox.run();
SELECT outbox.seek('s', 4);
CALL outbox.run();
SELECT position, what, replay FROM effect ORDER BY n;

-- what is open is dropped, dead letters stay
TRUNCATE effect;
SELECT outbox.unsubscribe('s');
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 1, start => '1', concurrency => 3);
INSERT INTO broken VALUES ('a1');
CALL outbox.run();
SELECT outbox.unsubscribe('s');
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 2, backoff => '1 hour', concurrency => 3,
                        on_exhausted => 'block');
INSERT INTO broken VALUES ('c1'), ('d1');
SELECT emit('c', 'c1', 'c2'), emit('d', 'd1', 'd2', 'd3'), emit('e', 'e1');
CALL outbox.run();
TABLE state;
SELECT outbox.seek('s', 8);
TABLE state;
SELECT name, position, retrying, parked FROM outbox.status;
CALL outbox.run();
SELECT outbox.alter_subscription('s', backoff => '0');
SELECT outbox.redrive('s');
SELECT outbox.seek('s', 14);
SELECT outbox.seek('s', 8);
UPDATE broken SET what = 'd2' WHERE what = 'd1';
SELECT outbox.alter_subscription('s', max_attempts => 1);
TRUNCATE effect;
CALL outbox.run();
TABLE state;
SELECT position, what, replay FROM effect ORDER BY position;

-- a replay comes by its own dead letters: they neither block it nor stand in its way
TRUNCATE effect;
SELECT outbox.seek('s', 8);
TABLE state;
CALL outbox.run();
TABLE state;
TRUNCATE broken;
SELECT outbox.seek('s', 8);
CALL outbox.run();
SELECT position, what, replay, attempt FROM effect ORDER BY position;
TABLE state;
-- forward over one that blocks: it goes on blocking
INSERT INTO broken VALUES ('d1');
SELECT outbox.seek('s', 8);
CALL outbox.run();
SELECT outbox.seek('s', 13);
SELECT emit('d', 'd4');
CALL outbox.run();
TABLE state;
SELECT outbox.unsubscribe('s');

-- start => 'now' is forgotten, and what had been skipped for it is no replay
TRUNCATE effect;
SELECT emit('f', 'before');
SELECT outbox.subscribe('s', handler => 'handle');
SELECT emit('f', 'after');
CALL outbox.run();
SELECT what, replay FROM effect ORDER BY n;
SELECT outbox.seek('s', outbox.head() - 1);
CALL outbox.run();
SELECT what, replay FROM effect ORDER BY n;
SELECT outbox.unsubscribe('s');

-- channels and consumers that pull
SELECT outbox.subscribe('c', channel => 'c');
SELECT outbox.subscribe('p', concurrency => 2);
SELECT emit('g', 'g1', 'g2');
CALL outbox.run();
SELECT outbox.seek('c', outbox.head());
CALL outbox.run();
SELECT name, position = head AS done, delivered FROM outbox.status ORDER BY name;
CREATE TABLE receipt AS SELECT receipt, data FROM outbox.receive('p', 1, '1 hour');
SELECT data FROM receipt;
SELECT outbox.seek('p', outbox.head());
SELECT outbox.ack('p', receipt) FROM receipt;
SELECT data FROM outbox.receive('p', 10, '1 hour');

-- what a seek or a change of lanes writes is no delivery, and has no latency
SELECT outbox.unsubscribe('c');
SELECT outbox.subscribe('c', channel => 'c', start => 'beginning');
SELECT outbox.seek('c', outbox.head() + 1);
SELECT outbox.alter_subscription('c', concurrency => 3);
SELECT delivered, latency_p99 FROM outbox.status WHERE name = 'c';

-- by members of the owner, outside of its handlers
CREATE ROLE regress_stranger;
GRANT EXECUTE ON FUNCTION outbox.seek TO regress_stranger;
SET ROLE regress_stranger;
SELECT outbox.seek('p', 1);
RESET ROLE;
CREATE FUNCTION selfish(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT outbox.seek('s', 1) $$;
SELECT outbox.subscribe('s', handler => 'selfish', max_attempts => 1);
SELECT emit('n', 'n1');
CALL outbox.run();
SELECT error FROM outbox.dead_letter;

-- status counts seeks, and what was handled since the last one
SELECT outbox.subscribe('counted', start => 'beginning') IS NOT NULL AS made;
SELECT seeks, delivered_since_seek FROM outbox.status WHERE name = 'counted';
SELECT count(*) FROM outbox.receive('counted', 2, lease => '1 hour');
SELECT outbox.ack('counted', last_value) FROM outbox.receipt_seq;
SELECT seeks, delivered_since_seek, delivered FROM outbox.status WHERE name = 'counted';
SELECT outbox.seek('counted', 1);
SELECT seeks, delivered_since_seek, delivered FROM outbox.status WHERE name = 'counted';

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE effect, broken, receipt;
DROP FUNCTION emit;
DROP ROLE regress_stranger;
