-- Dead letters: what they block, and outbox.redrive() and outbox.discard().
CREATE EXTENSION pg_outbox;
SET client_min_messages = warning;

CREATE TABLE broken (what text);
CREATE TABLE effect (n serial, position bigint, key text, what text, attempt integer);
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    IF EXISTS (SELECT FROM broken b WHERE b.what = e.data->>'what') THEN
        RAISE '% fails', e.data->>'what';
    END IF;
    INSERT INTO effect (position, key, what, attempt)
    VALUES (outbox.current_position(), e.key, e.data->>'what', outbox.current_attempt());
END
$$;
CREATE FUNCTION emit(key text, VARIADIC what text[]) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(outbox.publish('t', jsonb_build_object('what', w), key => emit.key)) FROM unnest(what) w $$;
CREATE VIEW state AS
SELECT d.position, d.state, d.open, d.attempts, d.error FROM outbox.delivery d ORDER BY d.position;

-- a dead letter lets its key go on; redriven, it comes after what came after it
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 1, backoff => '0');
INSERT INTO broken VALUES ('a1'), ('b1'), ('c1');
SELECT emit('a', 'a1', 'a2'), emit('b', 'b1', 'b2'), emit('c', 'c1', 'c2');
CALL outbox.run();
SELECT what, attempt FROM effect ORDER BY n;
SELECT subscription, position, key, data, attempts, blocking, error FROM outbox.dead_letter ORDER BY position;
SELECT name, state, delivered, failed, retrying, parked, dead FROM outbox.status;

-- what is no dead letter is an error; all of none is none
SELECT outbox.redrive('s', 2);
SELECT outbox.discard('s', 99);
SELECT outbox.redrive('nobody');
SELECT outbox.redrive(NULL);
SELECT outbox.discard('s', 0);

TRUNCATE effect;
DELETE FROM broken WHERE what <> 'c1';
SELECT outbox.redrive('s', 1);
TABLE state;
CALL outbox.run();
SELECT what, attempt FROM effect ORDER BY n;
SELECT outbox.redrive('s', 1);
SELECT outbox.redrive('s');
CALL outbox.run();
SELECT what, attempt FROM effect ORDER BY n;
TABLE state;
SELECT outbox.discard('s', 5);
SELECT outbox.discard('s'), outbox.redrive('s');
TABLE state;

-- a redriven event before an open one of its key takes its place; behind it, it waits
TRUNCATE effect, broken;
SELECT outbox.unsubscribe('s');
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 2, backoff => '1 hour');
INSERT INTO broken VALUES ('d1'), ('d2'), ('d3');
SELECT emit('d', 'd1', 'd2', 'd3', 'd4');
CALL outbox.run();
UPDATE outbox.delivery SET state = 'dead', open = false, next_at = NULL WHERE state = 'retry';
UPDATE outbox.delivery SET state = 'retry', next_at = now() + interval '1 hour'
WHERE position = (SELECT min(position) FROM outbox.delivery WHERE state = 'parked');
TABLE state;
SELECT outbox.redrive('s');
SELECT position, state, open, attempts, next_at <= now() AS due FROM outbox.delivery ORDER BY position;
DELETE FROM broken;
CALL outbox.run();
SELECT what, attempt FROM effect ORDER BY n;
TABLE state;
SELECT outbox.unsubscribe('s');

-- on_exhausted => 'block': its key waits for redrive or discard, the others do not
TRUNCATE effect, broken;
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 2, backoff => '0', on_exhausted => 'block');
INSERT INTO broken VALUES ('e1'), ('f1');
SELECT emit('e', 'e1', 'e2'), emit('f', 'f1', 'f2'), emit('g', 'g1');
CALL outbox.run();
SELECT what FROM effect ORDER BY n;
SELECT position, key, blocking, error FROM outbox.dead_letter ORDER BY position;
SELECT name, state, retrying, parked, dead FROM outbox.status;
SELECT outbox.wait('s', '0') AS done;
SELECT emit('e', 'e3'), emit('f', 'f3');
CALL outbox.run();
TABLE state;
DELETE FROM broken;
SELECT outbox.redrive('s', (SELECT min(position) FROM outbox.dead_letter)) AS e,
       outbox.discard('s', (SELECT max(position) FROM outbox.dead_letter)) AS f;
TABLE state;
CALL outbox.run();
SELECT what, attempt FROM effect ORDER BY n;
TABLE state;
SELECT outbox.wait('s', '0') AS done;
SELECT outbox.unsubscribe('s');

-- strict: everything waits
TRUNCATE effect, broken;
SELECT outbox.subscribe('s', handler => 'handle', ordering => 'strict', max_attempts => 2, backoff => '0',
                        on_exhausted => 'block');
INSERT INTO broken VALUES ('h1');
SELECT emit('h', 'h1'), emit('i', 'i1');
CALL outbox.run();
SELECT what FROM effect ORDER BY n;
SELECT name, state, dead FROM outbox.status;
SELECT outbox.redrive('s');
CALL outbox.run();
SELECT name, state, dead FROM outbox.status;
SELECT outbox.discard('s');
CALL outbox.run();
SELECT what FROM effect ORDER BY n;
SELECT name, state, dead FROM outbox.status;

-- strict without blocking goes on, and redriven events come in their order
TRUNCATE effect;
SELECT outbox.unsubscribe('s');
SELECT outbox.subscribe('s', handler => 'handle', ordering => 'strict', max_attempts => 1);
INSERT INTO broken VALUES ('j1'), ('k1');
SELECT emit('j', 'j1'), emit('k', 'k1'), emit(NULL, 'l1');
CALL outbox.run();
SELECT what FROM effect ORDER BY n;
TRUNCATE broken;
SELECT outbox.redrive('s');
TABLE state;
CALL outbox.run();
SELECT what FROM effect ORDER BY n;
SELECT outbox.unsubscribe('s');

-- none: nobody waits for anybody
TRUNCATE effect;
SELECT outbox.subscribe('s', handler => 'handle', ordering => 'none', max_attempts => 1, on_exhausted => 'block');
INSERT INTO broken VALUES ('m1');
SELECT emit('m', 'm1', 'm2');
CALL outbox.run();
SELECT what FROM effect ORDER BY n;
SELECT name, state, parked, dead FROM outbox.status;
TRUNCATE broken;
SELECT outbox.redrive('s');
CALL outbox.run();
SELECT what FROM effect ORDER BY n;

-- not for strangers, nor from within
CREATE ROLE regress_stranger;
GRANT EXECUTE ON FUNCTION outbox.redrive, outbox.discard TO regress_stranger;
SET ROLE regress_stranger;
SELECT outbox.redrive('s');
SELECT outbox.discard('s');
RESET ROLE;
SELECT outbox.unsubscribe('s');
CREATE FUNCTION selfish(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT outbox.redrive('s') $$;
SELECT outbox.subscribe('s', handler => 'selfish', max_attempts => 1);
SELECT emit('n', 'n1');
CALL outbox.run();
SELECT error FROM outbox.dead_letter;

-- the history of attempts: what each of them failed of, and when
CREATE FUNCTION fails_by_turns(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    CASE outbox.current_attempt()
        WHEN 1 THEN PERFORM 1 / 0;
        WHEN 2 THEN RAISE 'the service said %', repeat('no, ', 200) USING ERRCODE = '22023', DETAIL = 'not in the history';
        ELSE RAISE 'still' USING ERRCODE = 'P0002';
    END CASE;
END $$;
SELECT outbox.subscribe('turns', '{Turn}', handler => 'fails_by_turns', max_attempts => 4, backoff => '0');
SELECT outbox.publish('Turn');
CALL outbox.run();
CREATE VIEW history AS
    SELECT d.state, h.value->>'attempt' AS attempt, h.value->>'sqlstate' AS sqlstate,
           left(h.value->>'error', 30) AS error, length(h.value->>'error') AS length,
           coalesce(h.value->>'failed_at', h.value->>'redriven_at')::timestamptz <= clock_timestamp() AS is_past
    FROM outbox.delivery d, jsonb_array_elements(d.history) WITH ORDINALITY AS h (value, number)
    WHERE d.subscription = (SELECT id FROM outbox.subscription WHERE name = 'turns')
    ORDER BY d.position, h.number;
SELECT * FROM history;
SELECT d.history = v.history AS same, d.history->-1->>'failed_at' = to_jsonb(v.failed_at)#>>'{}' AS last
FROM outbox.dead_letter v JOIN outbox.subscription s ON s.name = v.subscription
JOIN outbox.delivery d ON d.subscription = s.id AND d.position = v.position WHERE s.name = 'turns';
-- a redrive begins anew, and does not forget
SELECT outbox.redrive('turns');
CALL outbox.run();
SELECT * FROM history;
-- of many attempts the first and the last ones; those that do not count, once
SELECT outbox.alter_subscription('turns', max_attempts => 1000);
SELECT outbox.redrive('turns');
CALL outbox.run();
SELECT jsonb_array_length(history) AS kept, history->0->>'attempt' AS first, history->0->>'sqlstate' AS of, history->-1->>'attempt' AS last
FROM outbox.dead_letter WHERE subscription = 'turns';
CREATE OR REPLACE FUNCTION fails_by_turns(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN RAISE 'later' USING ERRCODE = 'OB001'; END $$;
SELECT outbox.alter_subscription('turns', backoff => '1 hour');
SELECT outbox.publish('Turn');
CALL outbox.run();
SELECT outbox.redrive('turns', outbox.head());
CALL outbox.run();
SELECT outbox.redrive('turns', outbox.head());
CALL outbox.run();
SELECT state, attempts, jsonb_array_length(history) AS entries, history->0->>'attempt' AS attempt, history->0->>'error' AS error
FROM outbox.waiting WHERE subscription = 'turns';
SELECT outbox.unsubscribe('turns');

DROP EXTENSION pg_outbox CASCADE;
DROP TABLE effect, broken;
DROP FUNCTION emit;
DROP ROLE regress_stranger;
