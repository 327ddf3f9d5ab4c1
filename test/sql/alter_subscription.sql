-- outbox.alter_subscription(): everything can be changed, and nothing is lost,
-- repeated or reordered by it.
CREATE EXTENSION pg_outbox;

CREATE TABLE broken (key text);
CREATE TABLE effect (n serial, position bigint, key text, handler text);
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    IF EXISTS (SELECT FROM broken b WHERE b.key = e.key) THEN
        RAISE 'key % fails', e.key;
    END IF;
    INSERT INTO effect (position, key, handler) VALUES (outbox.current_position(), e.key, 'handle');
END
$$;
CREATE FUNCTION handle_json(e jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO effect (position, key, handler) VALUES (outbox.current_position(), e->>'key', 'json') $$;
CREATE FUNCTION emit(VARIADIC keys text[]) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(outbox.publish('t', key => nullif(k, ''))) FROM unnest(keys) k $$;
CREATE FUNCTION emit_many(keys integer, times integer) RETURNS bigint LANGUAGE sql AS
$$ SELECT count(outbox.publish('t', key => 'k' || k))
   FROM (SELECT k FROM generate_series(1, times) t, generate_series(1, keys) k ORDER BY t, k) e $$;
-- each event once, and of each key in order
CREATE VIEW invariant AS
SELECT (SELECT count(*) FROM outbox.read(max_events => 1000000)) - count(DISTINCT position) AS missing,
       count(*) - count(DISTINCT position) AS repeated,
       count(*) FILTER (WHERE position < before) AS out_of_order
FROM (SELECT position, lag(position) OVER (PARTITION BY key ORDER BY n) AS before FROM effect) e;
CREATE VIEW state AS
SELECT position, lane, state, open, attempts FROM outbox.delivery ORDER BY position;

-- what is not given stays
SELECT outbox.subscribe('s', '{t,u}', handler => 'handle', filter => 'true', concurrency => 2,
                        batch_size => 10, max_attempts => 3, backoff => '1 hour');
CREATE VIEW row AS
SELECT types, handler_name, handler_argument, channel, filter, ordering, concurrency, batch_size, max_attempts,
       backoff, max_backoff, timeout, on_exhausted, payload FROM outbox.subscription;
TABLE row \gx
SELECT outbox.alter_subscription('s');
TABLE row \gx
SELECT outbox.alter_subscription('s', '{t*}', 'handle_json', NULL, '', 'key', 4, 20, 5, '2 hours', '3 hours', '1 min',
                                 'block', 'event');
TABLE row \gx
SELECT outbox.alter_subscription('s', channel => 'c');
TABLE row \gx
SELECT outbox.alter_subscription('s', handler => 'handle(outbox.event)', concurrency => 1);
SELECT outbox.alter_subscription('s', ordering => 'strict');
TABLE row \gx

-- checked like subscribe()
SELECT outbox.alter_subscription('nobody');
SELECT outbox.alter_subscription(NULL);
SELECT outbox.alter_subscription('s', types => '{}');
SELECT outbox.alter_subscription('s', handler => 'nothing');
SELECT outbox.alter_subscription('s', handler => 'handle_json', channel => 'c');
SELECT outbox.alter_subscription('s', channel => '');
SELECT outbox.alter_subscription('s', filter => 'count(*) = 1');
SELECT outbox.alter_subscription('s', ordering => 'random');
SELECT outbox.alter_subscription('s', concurrency => 2);
SELECT outbox.alter_subscription('s', batch_size => 0);
SELECT outbox.alter_subscription('s', max_attempts => 0);
SELECT outbox.alter_subscription('s', backoff => '-1 s');
SELECT outbox.alter_subscription('s', on_exhausted => 'explode');
SELECT outbox.alter_subscription('s', payload => 'all');
SELECT outbox.alter_subscription('s', owner => 'nobody_at_all');

-- rights: the caller's membership, and what the owner may do
CREATE ROLE regress_owner LOGIN;
CREATE ROLE regress_other LOGIN;
GRANT EXECUTE ON FUNCTION outbox.subscribe, outbox.alter_subscription TO regress_owner, regress_other;
CREATE FUNCTION secret(e outbox.event) RETURNS void LANGUAGE sql AS $$ $$;
CREATE FUNCTION secret(data jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
REVOKE EXECUTE ON FUNCTION secret(outbox.event), secret(jsonb) FROM PUBLIC;
SET ROLE regress_owner;
SELECT outbox.subscribe('mine', handler => 'handle');
SET ROLE regress_other;
SELECT outbox.alter_subscription('mine', batch_size => 1);
RESET ROLE;
SELECT outbox.alter_subscription('mine', batch_size => 1);
SELECT outbox.alter_subscription('mine', handler => 'secret(outbox.event)');
SELECT outbox.alter_subscription('mine', filter => 'secret(data)');
SET ROLE regress_owner;
SELECT outbox.alter_subscription('mine', owner => 'regress_other');
RESET ROLE;
SELECT outbox.alter_subscription('mine', owner => 'regress_other', filter => 'key IS NOT NULL');
SELECT name, owner FROM outbox.status ORDER BY name;
SELECT outbox.unsubscribe('mine');
SELECT outbox.unsubscribe('s');

-- the number of lanes changes while they stand at different places
SELECT outbox.subscribe('s', handler => 'handle', concurrency => 3, batch_size => 5);
SELECT emit_many(8, 10);
CALL outbox.run(23);
SELECT count(DISTINCT position) > 1 AS apart FROM outbox.progress
WHERE (lane, version) IN (SELECT lane, max(version) FROM outbox.progress GROUP BY lane);
SELECT outbox.alter_subscription('s', concurrency => 5);
SELECT delivered = (SELECT count(*) FROM effect) AS counted FROM outbox.status;
CALL outbox.run(12);
SELECT count(*) FROM effect;
SELECT outbox.alter_subscription('s', concurrency => 2);
CALL outbox.run(11);
SELECT outbox.alter_subscription('s', concurrency => 7);
CALL outbox.run(5);
SELECT outbox.alter_subscription('s', concurrency => 1);
SELECT delivered = (SELECT count(*) FROM effect) AS counted FROM outbox.status;
CALL outbox.run(9);
SELECT outbox.alter_subscription('s', concurrency => 4);
SELECT emit_many(8, 2);
CALL outbox.run();
TABLE invariant;
SELECT name, state, position = head AS done, delivered, failed FROM outbox.status;

-- what was remembered of former lanes goes when it tells nothing any more
SELECT cardinality(history) > 0 AS remembered FROM outbox.subscription;
SELECT outbox.alter_subscription('s', concurrency => 4, ordering => 'key');
SELECT outbox.alter_subscription('s', concurrency => 5);
SELECT cardinality(history) FROM outbox.subscription;
SELECT outbox.alter_subscription('s', concurrency => 4);
SELECT history FROM outbox.subscription;
CALL outbox.run();
SELECT lane FROM outbox.progress GROUP BY lane ORDER BY lane;

-- a seek in between forgets it, and knows what was delivered
CALL outbox.run();
SELECT outbox.seek('s', 1);
TRUNCATE effect;
CALL outbox.run(20);
SELECT outbox.alter_subscription('s', concurrency => 2);
CALL outbox.run(10);
SELECT outbox.seek('s', 1);
TRUNCATE effect;
CALL outbox.run();
TABLE invariant;
SELECT outbox.unsubscribe('s');

-- what is open moves along and keeps its order
TRUNCATE effect;
SELECT outbox.subscribe('s', handler => 'handle', concurrency => 3, max_attempts => 1, backoff => '0');
INSERT INTO broken VALUES ('k1');
SELECT emit('k1');
CALL outbox.run();
SELECT outbox.alter_subscription('s', max_attempts => 5, backoff => '1 hour');
INSERT INTO broken VALUES ('k2'), ('k3');
SELECT emit('k2', 'k3', 'k2', 'k4', 'k3', 'k2', '');
CALL outbox.run();
SELECT position - outbox.head() AS position, state, open FROM state;
SELECT outbox.alter_subscription('s', concurrency => 5);
SELECT position - outbox.head() AS position, state, open FROM state;
SELECT count(*) AS in_wrong_lane FROM outbox.delivery a JOIN outbox.delivery b USING (key_hash) WHERE a.lane <> b.lane;
SELECT emit('k2', 'k3', 'k4');
CALL outbox.run();
TRUNCATE broken;
SELECT outbox.redrive('s');
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
SELECT outbox.alter_subscription('s', concurrency => 2);
CALL outbox.run();
SELECT key, position - outbox.head() AS position FROM effect ORDER BY key, n;
TABLE state;
SELECT name, parked, retrying, dead, delivered, failed FROM outbox.status;

-- other orderings: under none what was parked is due, under strict all wait for the first
TRUNCATE effect;
INSERT INTO broken VALUES ('k2'), ('k3');
SELECT emit('k2', 'k3', 'k2', 'k3', 'k4');
CALL outbox.run();
SELECT outbox.alter_subscription('s', ordering => 'none');
SELECT position - outbox.head() AS position, state, attempts FROM state;
TRUNCATE broken;
CALL outbox.run();
SELECT key, position - outbox.head() AS position FROM effect ORDER BY position;
INSERT INTO broken VALUES ('k2'), ('k3');
SELECT emit('k2', 'k3', 'k2', 'k3', 'k4');
CALL outbox.run();
SELECT outbox.alter_subscription('s', ordering => 'key');
SELECT position - outbox.head() AS position, state, attempts FROM state;
SELECT outbox.alter_subscription('s', ordering => 'strict', concurrency => 1);
SELECT position - outbox.head() AS position, state, attempts FROM state;
SELECT emit('k4');
CALL outbox.run();
SELECT name, state, lag FROM outbox.status;
TRUNCATE broken;
TRUNCATE effect;
SELECT outbox.alter_subscription('s', max_backoff => '0');
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
SELECT outbox.alter_subscription('s', ordering => 'key', concurrency => 2);
SELECT outbox.alter_subscription('s', ordering => 'strict', concurrency => 1);
CALL outbox.run();
SELECT key, position - outbox.head() AS position FROM effect ORDER BY n;
SELECT name, state, lag FROM outbox.status;
SELECT outbox.unsubscribe('s');

-- lanes apart become strict: what some of them left waits for nobody after it
TRUNCATE effect;
SELECT outbox.subscribe('s', handler => 'handle', concurrency => 3, batch_size => 1, backoff => '1 hour');
INSERT INTO broken VALUES ('k1');
SELECT emit_many(6, 3);
CALL outbox.run(8);
SELECT outbox.alter_subscription('s', ordering => 'strict', concurrency => 1);
CALL outbox.run();
SELECT state, lag > 0 AS waits FROM outbox.status;
SELECT count(*) AS delivered_before_the_failing_one,
       count(*) FILTER (WHERE effect.position > d.position) > 0 AS by_former_lanes
FROM effect, (SELECT min(position) AS position FROM outbox.delivery) d;
TRUNCATE broken;
UPDATE outbox.delivery SET next_at = now() WHERE state = 'retry';
SELECT outbox.alter_subscription('s', ordering => 'key');
CALL outbox.run();
SELECT count(*), count(DISTINCT position) FROM effect;
SELECT outbox.unsubscribe('s');

-- other types: what waits and is not asked for any more is dropped
TRUNCATE effect;
INSERT INTO broken VALUES ('k1');
SELECT outbox.subscribe('s', '{t,u}', handler => 'handle', backoff => '1 hour');
SELECT outbox.publish(t, key => 'k1') FROM unnest('{t,u,t}'::text[]) t;
CALL outbox.run();
SELECT position - outbox.head() AS position, state FROM state;
SELECT outbox.alter_subscription('s', types => '{u}');
SELECT position - outbox.head() AS position, state FROM state;
TRUNCATE broken;
SELECT outbox.publish(t, key => 'k1') FROM unnest('{t,u,t}'::text[]) t;
CALL outbox.run();
SELECT position - outbox.head() AS position FROM effect ORDER BY n;
SELECT outbox.unsubscribe('s');

-- block to dead_letter lets go what was blocked
TRUNCATE effect;
INSERT INTO broken VALUES ('k1');
SELECT outbox.subscribe('s', handler => 'handle', max_attempts => 1, on_exhausted => 'block');
SELECT emit('k1', 'k1', 'k2');
CALL outbox.run();
SELECT position - outbox.head() AS position, state, open FROM state;
TRUNCATE broken;
SELECT outbox.alter_subscription('s', on_exhausted => 'dead_letter');
CALL outbox.run();
SELECT position - outbox.head() AS position, state, open FROM state;
SELECT key FROM effect ORDER BY n;
SELECT outbox.unsubscribe('s');

-- consumers that pull: what is handed out and what is owed is handed out again, once
CREATE TABLE taken (key text, position bigint, receipt bigint);
SELECT outbox.subscribe('p', concurrency => 2);
SELECT emit('k1', 'k2', 'k3', 'k4', 'k1', 'k2', 'k3', 'k4');
CALL outbox.run();
INSERT INTO taken SELECT key, position, receipt FROM outbox.receive('p', 3, '1 hour');
SELECT outbox.ack('p', receipt, min(position)) FROM taken GROUP BY receipt;
CREATE TABLE acked AS SELECT * FROM taken ORDER BY position LIMIT 1;
SELECT outbox.alter_subscription('p', concurrency => 3);
SELECT outbox.ack('p', max(receipt)) FROM taken;
DO $$
DECLARE
    r bigint;
BEGIN
    LOOP
        INSERT INTO acked SELECT key, position, receipt FROM outbox.receive('p', 2, '1 hour');
        EXIT WHEN NOT FOUND;
        SELECT max(receipt) INTO r FROM acked;
        PERFORM outbox.ack('p', r);
    END LOOP;
END
$$;
SELECT count(*), count(DISTINCT position), count(*) FILTER (WHERE position < before) AS out_of_order
FROM (SELECT position, lag(position) OVER (PARTITION BY key ORDER BY receipt, position) AS before FROM acked) a;
TABLE state;

-- and become a function's
SELECT emit('k1', 'k2', 'k1', 'k2');
CALL outbox.run();
TRUNCATE effect;
SELECT count(*) FROM outbox.receive('p', 1, '1 hour');
SELECT outbox.alter_subscription('p', handler => 'handle_json');
SELECT * FROM outbox.receive('p');
CALL outbox.run();
SELECT key, position - outbox.head() AS position, handler FROM effect ORDER BY position;
SELECT name, kind, state, lag FROM outbox.status;

-- not from within, where lanes would move
CREATE FUNCTION selfish(e outbox.event) RETURNS void LANGUAGE sql AS
$$ SELECT outbox.alter_subscription('p', batch_size => 7); SELECT outbox.alter_subscription('p', concurrency => 7) $$;
SELECT outbox.alter_subscription('p', handler => 'selfish', max_attempts => 1);
SELECT emit('k1');
CALL outbox.run();
SELECT error FROM outbox.dead_letter;
SELECT batch_size, concurrency FROM outbox.subscription;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP TABLE effect, broken, taken, acked CASCADE;
DROP FUNCTION emit, emit_many, handle_json, secret(jsonb);
DROP ROLE regress_owner, regress_other;
