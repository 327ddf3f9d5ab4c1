-- Pull subscriptions: receive(), ack() and nack(); what a transaction and what
-- a lease hold, retries, parking and dead letters, lanes.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA pull;
SET search_path = pull;

-- receive() keeps the receipt under a name, receipt() finds it
CREATE TABLE handed (receipt bigint PRIMARY KEY, name text);
CREATE FUNCTION receive(subscription text, max_events integer DEFAULT 100, lease interval DEFAULT NULL,
                        name text DEFAULT 'r')
RETURNS TABLE ("position" bigint, type text, key text) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    event record;
BEGIN
    DELETE FROM pull.handed h WHERE h.name = $4;
    FOR event IN SELECT * FROM outbox.receive($1, $2, $3) LOOP
        INSERT INTO pull.handed VALUES (event.receipt, $4) ON CONFLICT DO NOTHING;
        RETURN QUERY SELECT event."position", event.type, event.key;
    END LOOP;
END
$$;
CREATE FUNCTION receipt(name text DEFAULT 'r') RETURNS bigint LANGUAGE sql AS $$
    SELECT receipt FROM pull.handed h WHERE h.name = $1
$$;
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
-- what is handed out goes back, as if released, and retries fall due
CREATE PROCEDURE let_time_go_by() LANGUAGE sql AS $$
    UPDATE outbox.progress SET lease_until = NULL, receiver = NULL, handed = NULL,
        retries = NULL, retries_version = NULL, retries_count = NULL, retries_gone = NULL
    WHERE lease_until IS NOT NULL;
    UPDATE outbox.delivery SET next_at = '2000-01-01' WHERE state = 'retry';
$$;
-- what stands in outbox.delivery, and where the subscription stands
CREATE FUNCTION exceptions(subscription text) RETURNS TABLE ("position" bigint, state text, attempts integer, error text)
LANGUAGE sql AS $$
    SELECT d."position", d.state, d.attempts, d.error
    FROM outbox.delivery d JOIN outbox.subscription s ON s.id = d.subscription AND s.name = $1
    ORDER BY 1
$$;
CREATE VIEW standing AS
    SELECT name, kind, state, "position", head, lag, retrying, parked, dead, delivered, failed
    FROM outbox.status;
-- publishes events with these keys, and gives them positions
CREATE PROCEDURE emit(type text, VARIADIC keys text[]) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. cardinality(keys) LOOP
        PERFORM outbox.publish(type, key => nullif(keys[i], '-'));
    END LOOP;
END
$$;

-- arguments
SELECT outbox.subscribe('p');
CREATE FUNCTION handler(e outbox.event) RETURNS void LANGUAGE sql AS '';
SELECT outbox.subscribe('f', handler => 'handler');
SELECT outbox.subscribe('c', channel => 'c');
SELECT * FROM refusal($$ SELECT outbox.receive('nobody') $$);
SELECT * FROM refusal($$ SELECT outbox.receive('f') $$);
SELECT * FROM refusal($$ SELECT outbox.ack('c', 1) $$);
SELECT * FROM refusal($$ SELECT outbox.nack('c', 1, 1) $$);
SELECT * FROM refusal($$ SELECT outbox.receive(NULL) $$);
SELECT * FROM refusal($$ SELECT outbox.receive('p', 0) $$);
SELECT * FROM refusal($$ SELECT outbox.receive('p', -1) $$);
SELECT * FROM refusal($$ SELECT outbox.receive('p', 1, '0') $$);
SELECT * FROM refusal($$ SELECT outbox.receive('p', 1, '-1 second') $$);
SELECT * FROM refusal($$ SELECT outbox.ack('p', NULL) $$);
SELECT * FROM refusal($$ SELECT outbox.ack('p', 1) $$);
SELECT * FROM refusal($$ SELECT outbox.ack('p', 0) $$);
SELECT * FROM refusal($$ SELECT outbox.ack('p', 1, 0) $$);
SELECT * FROM refusal($$ SELECT outbox.nack('p', NULL, 1) $$);
SELECT * FROM refusal($$ SELECT outbox.nack('p', 1, NULL) $$);
SELECT * FROM refusal($$ SELECT outbox.nack('p', 1, 1, delay => '-1 second') $$);
SELECT * FROM refusal($$ SELECT outbox.nack('p', 1, 1, delay => '1 second', final => true) $$);
SELECT * FROM refusal($$ SELECT outbox.nack('p', 1, NULL, positions => '{1,NULL}') $$);
SELECT * FROM refusal($$ SELECT outbox.ack('p', 1, 1, '{1}') $$);
SELECT * FROM refusal($$ SELECT outbox.ack('p', 1, positions => '{1,NULL}') $$);
SELECT * FROM refusal($$ SELECT outbox.receive('p', receipt => 1) $$);
SELECT * FROM refusal($$ SELECT outbox.extend('p', 1, '1 second') $$);
SELECT * FROM refusal($$ SELECT outbox.extend('p', 1, NULL) $$);
SELECT * FROM refusal($$ SELECT outbox.extend('p', 1, '0') $$);
SELECT * FROM refusal($$ SELECT outbox.release('p', 1) $$);
SELECT * FROM refusal($$ SELECT outbox.release('p', NULL) $$);
SELECT * FROM refusal($$ SELECT outbox.nack('p', 1, 1) $$);
BEGIN READ ONLY;
SELECT outbox.receive('p');
ROLLBACK;
SELECT outbox.unsubscribe('f'), outbox.unsubscribe('c');

-- rights: EXECUTE, and membership in the owner
CREATE ROLE regress_pull_owner;
CREATE ROLE regress_pull_other;
GRANT EXECUTE ON FUNCTION outbox.receive, outbox.ack TO regress_pull_other;
SET ROLE regress_pull_owner;
SELECT outbox.receive('p');
SET ROLE regress_pull_other;
SELECT outbox.receive('p');
SELECT outbox.ack('p', 1);
RESET ROLE;

-- nothing to give is an empty set
SELECT * FROM receive('p');
SELECT * FROM standing;

-- the columns are those of read()
CALL emit('A', 'a', 'b', 'a', '-', 'c');
CALL outbox.run();
BEGIN;
SELECT count(*) AS differences
FROM (SELECT to_jsonb(r) - 'receipt' - 'attempt' - 'is_replay' AS event FROM outbox.receive('p') r) AS received
FULL JOIN (SELECT to_jsonb(r) AS event FROM outbox.read() r) AS read USING (event)
WHERE received.event IS NULL OR read.event IS NULL;
SELECT outbox.release('p', max(receipt)) FROM outbox.progress;
ROLLBACK;

-- a rollback gives back, to a savepoint too; what is handed out is not handed out twice
BEGIN;
SAVEPOINT s;
SELECT * FROM receive('p', 2);
SELECT * FROM receive('p', 2, name => 'none');
ROLLBACK TO s;
SELECT * FROM receive('p', 3);
SELECT outbox.release('p', receipt());
ROLLBACK;
-- so does a commit without an ack, and the receipt is refused
BEGIN;
SELECT * FROM receive('p', 2);
COMMIT;
SELECT state FROM refusal($$ SELECT outbox.ack('p', pull.receipt()) $$);
SELECT state FROM refusal($$ SELECT outbox.nack('p', pull.receipt(), 1) $$);
SELECT * FROM standing;
SELECT outbox.wait('p', '0');
-- acked and committed: dealt with
BEGIN;
SELECT * FROM receive('p', 2);
SELECT outbox.ack('p', receipt());
SELECT * FROM receive('p', 2);
SELECT outbox.ack('p', receipt());
COMMIT;
SELECT state FROM refusal($$ SELECT outbox.ack('p', pull.receipt()) $$);
SELECT * FROM receive('p', lease => '1 hour');
SELECT outbox.ack('p', receipt());
SELECT * FROM receive('p');
SELECT outbox.wait('p', '0');
SELECT * FROM standing;
SELECT * FROM outbox.delivery;

-- leases: acked from any transaction, in parts
CALL emit('A', 'a', 'b', 'c', 'd');
CALL outbox.run();
SELECT * FROM receive('p', 3, '1 hour');
SELECT * FROM receive('p', name => 'none');
SELECT outbox.ack('p', receipt(), 6);
SELECT "position" FROM standing;
SELECT state, message, detail FROM refusal($$ SELECT outbox.ack('p', pull.receipt(), 5) $$);
SELECT state, message, detail FROM refusal($$ SELECT outbox.ack('p', pull.receipt(), 6) $$);
SELECT state, message, detail FROM refusal($$ SELECT outbox.ack('p', pull.receipt(), 9) $$);
SELECT state, message, detail FROM refusal($$ SELECT outbox.nack('p', pull.receipt(), 9) $$);
BEGIN;
SELECT outbox.ack('p', receipt(), 7);
ROLLBACK;
SELECT outbox.ack('p', receipt());
SELECT state FROM refusal($$ SELECT outbox.ack('p', pull.receipt()) $$);
-- one that runs out: the same events again, a new receipt, the old one refused
SELECT * FROM receive('p', lease => '1 ms', name => 'late');
SELECT pg_sleep(0.01);
SELECT state FROM refusal($$ SELECT outbox.ack('p', pull.receipt('late')) $$);
SELECT count(*) FROM receive('p', lease => '1 hour');
UPDATE outbox.delivery SET next_at = '2000-01-01' WHERE state = 'retry';
SELECT state FROM refusal($$ SELECT outbox.ack('p', pull.receipt('late')) $$);
SELECT * FROM receive('p', lease => '1 hour');
SELECT state FROM refusal($$ SELECT outbox.ack('p', pull.receipt('late')) $$);
SELECT state FROM refusal($$ SELECT outbox.nack('p', pull.receipt('late'), 9) $$);
SELECT outbox.ack('p', receipt());
-- what is left of one that runs out comes again, and nothing else
CALL emit('A', 'a', 'b', 'c', 'd', 'e');
CALL outbox.run();
SELECT * FROM receive('p', 4, '1 hour');
SELECT outbox.ack('p', receipt(), 11);
SELECT outbox.nack('p', receipt(), 12, 'no c');
CALL let_time_go_by();
SELECT * FROM exceptions('p');
SELECT * FROM receive('p', lease => '1 hour');
SELECT outbox.ack('p', receipt());
SELECT * FROM receive('p', lease => '1 hour');
SELECT outbox.ack('p', receipt());
SELECT * FROM receive('p', lease => '1 hour');
SELECT outbox.ack('p', receipt());
SELECT * FROM standing;
SELECT * FROM exceptions('p');
SELECT outbox.unsubscribe('p');

-- nack: retries that are due first, with what is parked behind them; others stand
SELECT outbox.subscribe('n', '{N}', backoff => '0', max_attempts => 3);
CALL emit('N', 'a', 'b', 'a', 'c', 'a', '-', '-');
CALL emit('X', 'a', 'x');
CALL emit('N', 'a', 'd');
CALL outbox.run();
SELECT * FROM receive('n', 7, '1 hour');
SELECT outbox.nack('n', receipt(), 15, 'bad a');
SELECT * FROM exceptions('n');
SELECT state, message, detail FROM refusal($$ SELECT outbox.ack('n', pull.receipt(), 17) $$);
SELECT outbox.nack('n', receipt(), 20);
SELECT outbox.ack('n', receipt());
SELECT * FROM standing;
-- of a key that waits, new events are parked too
SELECT * FROM receive('n', 2, '1 hour');
SELECT outbox.nack('n', receipt(), 17, 'bad a again');
SELECT * FROM exceptions('n');
SELECT outbox.ack('n', receipt());
SELECT * FROM receive('n', lease => '1 hour');
SELECT outbox.nack('n', receipt(), 17, 'bad a at last');
SELECT outbox.ack('n', receipt());
-- the third failure makes it a dead letter, and its key goes on
SELECT * FROM receive('n', lease => '1 hour');
SELECT outbox.nack('n', receipt(), 17, 'bad a at last');
SELECT * FROM exceptions('n');
SELECT * FROM receive('n', lease => '1 hour');
SELECT outbox.ack('n', receipt());
SELECT * FROM receive('n', lease => '1 hour');
SELECT outbox.ack('n', receipt());
SELECT * FROM receive('n', lease => '1 hour');
SELECT subscription, "position", key, attempts, blocking, error FROM outbox.dead_letter;
SELECT * FROM standing;
SELECT last_error FROM outbox.status;
SELECT outbox.wait('n', '0');
-- nothing left, but the receipt is good until it is acked
CALL emit('N', 'z');
CALL outbox.run();
SELECT * FROM receive('n', lease => '1 hour');
SELECT outbox.nack('n', receipt(), 26);
SELECT state, message, detail FROM refusal($$ SELECT outbox.nack('n', pull.receipt(), 26) $$);
SELECT outbox.ack('n', receipt());
SELECT state FROM refusal($$ SELECT outbox.ack('n', pull.receipt()) $$);
-- a retry whose lease runs out comes again, without an attempt used up
SELECT * FROM receive('n', lease => '1 hour');
CALL let_time_go_by();
SELECT * FROM receive('n', lease => '1 hour');
SELECT * FROM exceptions('n');
SELECT outbox.ack('n', receipt());
SELECT outbox.unsubscribe('n');

-- nacked in the wrong order, they come back in the right one
SELECT outbox.subscribe('w', backoff => '0');
CALL emit('W', 'a', 'b', 'a', 'a');
CALL outbox.run();
SELECT * FROM receive('w', 3, '1 hour');
SELECT outbox.nack('w', receipt(), 29, 'bad');
SELECT outbox.nack('w', receipt(), 27, 'bad');
SELECT outbox.ack('w', receipt());
SELECT * FROM exceptions('w');
SELECT * FROM receive('w', lease => '1 hour');
SELECT outbox.nack('w', receipt(), 29, 'bad');
SELECT outbox.nack('w', receipt(), 27, 'bad');
SELECT * FROM exceptions('w');
SELECT * FROM receive('w', lease => '1 hour');
SELECT outbox.ack('w', receipt());
SELECT * FROM receive('w', lease => '1 hour');
SELECT outbox.ack('w', receipt());
SELECT * FROM exceptions('w');
-- what was handed out before it and not acked still comes first
CALL emit('W', 'a', 'b', 'a', 'a');
CALL outbox.run();
SELECT * FROM receive('w', 3, '1 hour');
SELECT outbox.nack('w', receipt(), 33, 'bad');
CALL let_time_go_by();
SELECT * FROM receive('w', lease => '1 hour');
SELECT * FROM exceptions('w');
SELECT outbox.ack('w', receipt());
SELECT * FROM receive('w', lease => '1 hour');
SELECT outbox.ack('w', receipt());
SELECT * FROM exceptions('w');
SELECT outbox.unsubscribe('w');

-- of what is owed, only those of other keys come before the retry
SELECT outbox.subscribe('x', backoff => '1 hour');
CALL emit('X', 'a', 'a', 'b', 'a');
CALL outbox.run();
SELECT * FROM receive('x', lease => '1 hour');
CALL let_time_go_by();
SELECT * FROM receive('x', 1, '1 hour');
SELECT outbox.nack('x', receipt(), 35, 'bad');
SELECT * FROM receive('x', lease => '1 hour');
SELECT * FROM exceptions('x');
SELECT outbox.ack('x', receipt());
SELECT * FROM standing;
SELECT outbox.unsubscribe('x');

-- a dead letter that blocks
SELECT outbox.subscribe('b', backoff => '0', max_attempts => 1, on_exhausted => 'block');
CALL emit('B', 'a', 'b', 'a');
CALL outbox.run();
SELECT * FROM receive('b', lease => '1 hour');
SELECT outbox.nack('b', receipt(), 39, 'bad');
SELECT outbox.ack('b', receipt());
CALL emit('B', 'a', 'b');
CALL outbox.run();
SELECT * FROM receive('b', lease => '1 hour');
SELECT outbox.ack('b', receipt());
SELECT * FROM exceptions('b');
SELECT * FROM standing;
SELECT outbox.unsubscribe('b');

-- strict: everything behind a failing event waits, what is before it comes first
SELECT outbox.subscribe('s', ordering => 'strict', backoff => '0');
CALL emit('S', 'a', 'b', 'c', 'd');
CALL outbox.run();
SELECT * FROM receive('s', lease => '1 hour');
SELECT outbox.nack('s', receipt(), 46, 'bad');
SELECT state, message, detail FROM refusal($$ SELECT outbox.ack('s', pull.receipt(), 47) $$);
SELECT * FROM exceptions('s');
SELECT outbox.ack('s', receipt(), 44);
CALL let_time_go_by();
SELECT * FROM receive('s', lease => '1 hour');
SELECT outbox.ack('s', receipt());
SELECT * FROM receive('s', lease => '1 hour');
SELECT outbox.nack('s', receipt(), 46, 'bad');
SELECT state FROM standing;
SELECT * FROM receive('s', lease => '1 hour');
SELECT outbox.ack('s', receipt());
SELECT * FROM receive('s', lease => '1 hour');
SELECT outbox.ack('s', receipt());
SELECT * FROM standing;
SELECT outbox.unsubscribe('s');

-- lanes that become a strict one: what is open may come behind where it begins
SELECT outbox.subscribe('s', concurrency => 2, backoff => '0');
CALL emit('S', 'a', 'b', 'b', 'a', 'b');
CALL outbox.run();
SELECT * FROM receive('s', 1, '1 hour');
SELECT outbox.nack('s', receipt(), 49, 'bad');
SELECT outbox.alter_subscription('s', ordering => 'strict', concurrency => 1);
BEGIN;
SELECT * FROM receive('s');
SELECT outbox.ack('s', receipt());
SELECT * FROM receive('s');
SELECT outbox.ack('s', receipt());
SELECT * FROM receive('s');
SELECT outbox.ack('s', receipt());
COMMIT;
SELECT * FROM standing;
SELECT outbox.unsubscribe('s');

-- none: nothing waits
SELECT outbox.subscribe('o', ordering => 'none', backoff => '1 hour');
CALL emit('O', 'a', 'a', 'a');
CALL outbox.run();
SELECT * FROM receive('o', lease => '1 hour');
SELECT outbox.nack('o', receipt(), 53, 'bad');
SELECT outbox.ack('o', receipt());
CALL emit('O', 'a');
CALL outbox.run();
SELECT * FROM receive('o', lease => '1 hour');
SELECT outbox.ack('o', receipt());
SELECT * FROM exceptions('o');
SELECT outbox.unsubscribe('o');

-- lanes: one a hand-out, a key always in the same
SELECT outbox.subscribe('l', concurrency => 3);
SELECT count(outbox.publish('L', key => 'k' || i % 10)) FROM generate_series(1, 60) i;
CALL outbox.run();
CREATE TABLE got (number integer, "position" bigint, key text, receipt bigint);
BEGIN;
INSERT INTO got SELECT n, r."position", r.key, r.receipt
FROM generate_series(1, 4) n CROSS JOIN LATERAL outbox.receive('l', 100 + n) r;
SELECT count(DISTINCT receipt) AS hand_outs, count(DISTINCT "position") AS events, count(*) AS rows FROM got;
SELECT count(*) AS keys_in_two_lanes FROM (
    SELECT key FROM got GROUP BY key HAVING count(DISTINCT receipt) > 1) AS k;
SELECT outbox.ack('l', receipt) FROM (SELECT DISTINCT receipt FROM got) AS r;
COMMIT;
SELECT * FROM standing;
-- the lane that is farthest behind comes first
SELECT count(outbox.publish('L', key => 'k' || i % 10)) FROM generate_series(1, 60) i;
CALL outbox.run();
TRUNCATE got;
DO $$
DECLARE
    received integer := 1;
BEGIN
    WHILE received > 0 LOOP
        INSERT INTO pull.got (receipt, "position") SELECT r.receipt, r."position" FROM outbox.receive('l', 5) r;
        GET DIAGNOSTICS received = ROW_COUNT;
        PERFORM outbox.ack('l', r.receipt) FROM (SELECT max(g.receipt) AS receipt FROM pull.got g) r WHERE received > 0;
    END LOOP;
END
$$;
SELECT count(*), count(DISTINCT "position") FROM got;
SELECT * FROM standing;

-- a paused subscription gives nothing, but what is out can be acked
CALL emit('L', 'a', 'a');
CALL outbox.run();
SELECT * FROM receive('l', 1, '1 hour');
SELECT outbox.pause('l');
SELECT * FROM receive('l', name => 'none');
SELECT outbox.ack('l', receipt());
SELECT * FROM receive('l', name => 'none');
SELECT outbox.resume('l');
SELECT * FROM receive('l', lease => '1 hour');
SELECT outbox.unsubscribe('l');
SELECT state, message FROM refusal($$ SELECT outbox.ack('l', pull.receipt()) $$);
SELECT count(*) FROM outbox.progress;

-- under repeatable read: the transaction gets what its snapshot sees
SELECT outbox.subscribe('r');
CALL emit('R', 'a', 'b');
CALL outbox.run();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM receive('r', 1);
SELECT outbox.ack('r', receipt());
SELECT * FROM receive('r', 1);
SELECT outbox.ack('r', receipt());
COMMIT;
SELECT * FROM standing;

-- a filter runs as the owner, whoever receives; where it fails, the event does
SELECT outbox.unsubscribe('r');
GRANT EXECUTE ON FUNCTION outbox.subscribe TO regress_pull_owner;
GRANT USAGE ON SCHEMA pull TO regress_pull_owner;
SET ROLE regress_pull_owner;
SELECT outbox.subscribe('filtered', filter => $$ current_user = 'regress_pull_owner' AND key <> 'no'
                                                 AND (key <> 'bad' OR 1 / (type = 'G')::integer > 0) $$,
                        backoff => '0', max_attempts => 2);
RESET ROLE;
CALL emit('F', 'a', 'no', 'bad', 'b', 'bad', 'no');
CALL emit('G', 'bad');
CALL outbox.run();
CREATE TABLE parent (id integer PRIMARY KEY);
CREATE TABLE child (id integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
BEGIN;
-- what the consumer has deferred is not the filter's to check
INSERT INTO child VALUES (1);
SELECT * FROM receive('filtered', 3);
INSERT INTO parent VALUES (1);
SELECT current_user = session_user AS is_self, current_setting('search_path');
SELECT outbox.ack('filtered', receipt());
COMMIT;
SELECT "position" - (SELECT max("position") FROM standing) AS behind, state, attempts, error FROM exceptions('filtered');
SELECT * FROM receive('filtered', lease => '1 hour');
SELECT outbox.ack('filtered', receipt());
SELECT * FROM receive('filtered', lease => '1 hour');
SELECT outbox.ack('filtered', receipt());
SELECT * FROM receive('filtered', lease => '1 hour');
SELECT key, attempts, error FROM outbox.dead_letter;
SELECT * FROM standing;
SELECT outbox.unsubscribe('filtered');

-- an event that is not wanted moves the position on
SELECT outbox.subscribe('u', '{U}');
CALL emit('X', 'a', 'b');
CALL outbox.run();
SELECT lag FROM standing;
SELECT * FROM receive('u');
SELECT lag FROM standing;
SELECT outbox.wait('u', '0');

-- nacked in any order: the first one of a key is tried next, the others wait
SELECT outbox.subscribe('n');
SELECT outbox.head() AS head \gset
CREATE FUNCTION nack(nth integer) RETURNS void LANGUAGE sql AS $$
    SELECT outbox.nack('n', pull.receipt(), (current_setting('pull.head')::bigint + nth))
$$;
SELECT set_config('pull.head', :'head', false) IS NOT NULL AS set;
CALL emit('N', 'k', 'k', 'k');
CALL outbox.run();
SELECT "position" - :head AS nth, key FROM receive('n', lease => '1 hour');
SELECT nack(3), nack(1);
SELECT "position" - :head AS nth, state, attempts FROM exceptions('n');
CALL let_time_go_by();
SELECT "position" - :head AS nth, key FROM receive('n', lease => '1 hour');
SELECT nack(3), nack(2);
SELECT "position" - :head AS nth, state, attempts FROM exceptions('n');
CALL let_time_go_by();
SELECT "position" - :head AS nth, key FROM receive('n', lease => '1 hour');
SELECT outbox.ack('n', receipt());

-- what was read and has to wait is not read again, whatever ran out in between
SELECT outbox.head() AS head, set_config('pull.head', outbox.head()::text, false) IS NOT NULL AS set \gset
CALL emit('N', 'x', 'x', 'y', 'x', 'y');
CALL outbox.run();
SELECT "position" - :head AS nth, key FROM receive('n', 3, lease => '1 hour');
SELECT nack(3);
CALL let_time_go_by();
SELECT "position" - :head AS nth, key FROM receive('n', 1, lease => '1 hour');
SELECT nack(1);
SELECT "position" - :head AS nth, key FROM receive('n', 10, lease => '1 hour');
SELECT "position" - :head AS nth, state, attempts FROM exceptions('n');
CALL let_time_go_by();
SELECT "position" - :head AS nth, key FROM receive('n', 10, lease => '1 hour');
SELECT outbox.ack('n', receipt());
SELECT "position" - :head AS nth, key FROM receive('n', 10, lease => '1 hour');
SELECT lag, retrying, parked, dead FROM standing WHERE name = 'n';

-- a long hand-out that is acked one by one: its list is written now and then only
SELECT count(outbox.publish('N', key => 'k' || n % 7)) FROM generate_series(1, 1300) n;
CALL outbox.run();
SELECT count(*) FROM receive('n', 10000, lease => '1 hour');
SELECT "position" AS first FROM outbox.read(outbox.head() - 1300, 1) \gset
SELECT outbox.nack('n', receipt(), :first + 700);
SELECT count(outbox.ack('n', receipt(), r."position")) FROM outbox.read(outbox.head() - 1300, 700) r;
SELECT lag, retrying, parked FROM standing WHERE name = 'n';
SELECT count(*) FILTER (WHERE p.owed IS NOT NULL) AS lists, sum(cardinality(p.owed)) AS "positions"
FROM outbox.progress p JOIN outbox.subscription s ON s.id = p.subscription AND s.name = 'n' AND p.owed_count > 100;
CALL let_time_go_by();
SELECT count(*), min("position") - :first AS first, max("position") - :first AS last FROM receive('n', 300, lease => '1 hour');
SELECT outbox.ack('n', receipt());
SELECT count(*), min("position") - :first AS first, max("position") - :first AS last FROM receive('n', 300, lease => '1 hour');
SELECT outbox.ack('n', receipt(), :first + 801);
SELECT outbox.alter_subscription('n', concurrency => 2);
SELECT lag, retrying, parked FROM standing WHERE name = 'n';
SELECT outbox.unsubscribe('n');

-- several hand-outs under one receipt, acked in any order
SELECT outbox.subscribe('m', '{M}', backoff => '0', max_attempts => 2);
SELECT outbox.head() AS head, set_config('pull.head', outbox.head()::text, false) IS NOT NULL AS set \gset
CALL emit('M', 'a', 'b', 'a', 'c', 'b', 'd', 'a', 'e');
CALL outbox.run();
CREATE FUNCTION go_on(max_events integer, lease interval DEFAULT NULL)
RETURNS TABLE (nth bigint, key text, attempt integer, same boolean) LANGUAGE sql AS $$
    SELECT r."position" - current_setting('pull.head')::bigint, r.key, r.attempt, r.receipt = pull.receipt()
    FROM outbox.receive('m', $1, $2, pull.receipt()) r
$$;
CREATE FUNCTION at(VARIADIC nth bigint[]) RETURNS bigint[] LANGUAGE sql AS $$
    SELECT array_agg(n + current_setting('pull.head')::bigint) FROM unnest($1) n
$$;
SELECT "position" - :head AS nth, key FROM receive('m', 2, lease => '1 hour');
SELECT * FROM go_on(2);
SELECT * FROM go_on(2, '1 hour');
SELECT outbox.ack('m', receipt(), positions => at(2, 4, 5, 4));
SELECT state, message = format('position %s is not handed out under receipt %s', :head + 4, receipt()) AS same,
       detail = format('Left of that hand-out are 3 of the positions %s to %s.', :head + 1, :head + 6) AS of_three
FROM refusal($$ SELECT outbox.ack('m', pull.receipt(), positions => pull.at(1, 4)) $$);
SELECT outbox.ack('m', receipt(), positions => '{}');
SELECT "position" - :head AS nth, lag FROM standing WHERE name = 'm';
-- a nack takes back what is behind it in all of them, and leaves the others
SELECT outbox.nack('m', receipt(), :head + 1, 'no');
SELECT "position" - :head AS nth, state, attempts, error FROM exceptions('m');
SELECT * FROM go_on(10);
SELECT outbox.ack('m', receipt(), positions => at(1));
SELECT * FROM go_on(10);
SELECT outbox.ack('m', receipt());
SELECT state FROM refusal($$ SELECT outbox.ack('m', pull.receipt()) $$);
SELECT lag, retrying, parked, delivered, failed FROM standing WHERE name = 'm';
-- acked to its end, it may go on until another consumer comes
CALL emit('M', 'a', 'b', 'c');
CALL outbox.run();
SELECT nth - 8 AS nth, key, attempt, same FROM go_on(1, '1 hour');
SELECT outbox.ack('m', receipt());
SELECT count(*) FROM receive('m', 1, '1 hour', name => 'other');
SELECT state FROM refusal($$ SELECT outbox.receive('m', receipt => pull.receipt()) $$);
-- a lease is renewed for all, and given back without an attempt
SELECT outbox.extend('m', receipt('other'), '2 hours') - now() > '119 minutes' AS longer;
SELECT outbox.release('m', receipt('other'));
SELECT state FROM refusal($$ SELECT outbox.extend('m', pull.receipt('other'), '2 hours') $$);
SELECT state FROM refusal($$ SELECT outbox.release('m', pull.receipt('other')) $$);
SELECT "position" - :head AS nth, key FROM receive('m', 10, '1 hour');
SELECT outbox.ack('m', receipt());
-- nack: after a delay, or as a dead letter at once; several at a time
CALL emit('M', 'a', 'a', 'b', 'a', 'c', '-');
CALL outbox.run();
SELECT "position" - :head AS nth, key FROM receive('m', 10, '1 hour');
SELECT outbox.nack('m', receipt(), :head + 14, 'later', delay => '2 days');
SELECT outbox.nack('m', receipt(), NULL, 'never', final => true, positions => at(12, 16, 17));
SELECT state FROM refusal($$ SELECT outbox.nack('m', pull.receipt(), NULL, positions => pull.at(13, 15)) $$);
SELECT "position" - :head AS nth, state, attempts, error FROM exceptions('m');
SELECT count(*) FROM outbox.delivery WHERE next_at BETWEEN now() + '47 hours' AND now() + '2 days';
SELECT outbox.ack('m', receipt());
SELECT r."position" - :head AS nth, r.key, r.attempt, r.is_replay FROM outbox.receive('m', 10) r;
CALL let_time_go_by();
BEGIN;
SELECT r."position" - :head AS nth, r.key, r.attempt, r.is_replay FROM outbox.receive('m', 10) r;
SELECT outbox.ack('m', max(receipt)) FROM outbox.progress;
COMMIT;
-- what is read again after a seek is a replay
SELECT outbox.discard('m') > 0 AS some, outbox.seek('m', :head + 1) > 0 AS sought;
SELECT r."position" - :head AS nth, r.attempt, r.is_replay FROM outbox.receive('m', 2, '1 hour') r;
SELECT outbox.unsubscribe('m');

-- a consumer that ends without a word: the event that it had alone has failed,
-- and where it had several, the next ones have fewer
SELECT outbox.subscribe('d', '{D}', backoff => '0', max_attempts => 3);
SELECT outbox.head() AS head, set_config('pull.head', outbox.head()::text, false) IS NOT NULL AS set \gset
SELECT count(outbox.publish('D', key => 'k' || n % 30)) FROM generate_series(1, 40) n;
CALL outbox.run();
CREATE PROCEDURE crash() LANGUAGE sql AS $$
    UPDATE outbox.progress SET lease_until = '2000-01-01 00:00:00 UTC' WHERE lease_until IS NOT NULL
$$;
SET timezone = 'UTC';
CREATE FUNCTION next(lease interval DEFAULT '1 hour') RETURNS TABLE (nths text, attempts text) LANGUAGE sql AS $$
    SELECT string_agg((e."position" - current_setting('pull.head')::bigint)::text, ' ' ORDER BY e."position"),
           string_agg(DISTINCT e.attempt::text, ' ')
    FROM (SELECT * FROM outbox.receive('d', 100, $1)) e
$$;
CREATE FUNCTION ack_last(VARIADIC nth bigint[] DEFAULT NULL) RETURNS void LANGUAGE sql AS $$
    SELECT outbox.ack('d', max(receipt), positions => (SELECT array_agg(n + current_setting('pull.head')::bigint) FROM unnest($1) n))
    FROM outbox.progress
$$;
SELECT * FROM next();
CALL crash();
SELECT * FROM next();
SELECT ack_last();
SELECT * FROM next();
CALL crash();
SELECT failed, (SELECT last_error FROM outbox.status WHERE name = 'd') FROM standing WHERE name = 'd';
SELECT * FROM next();
SELECT ack_last();
SELECT * FROM next();
SELECT ack_last();
SELECT * FROM next();
CALL crash();
-- the seventh is it, and has each next attempt alone
SELECT * FROM next();
SELECT "position" - :head AS nth, state, attempts, sqlstate, error FROM outbox.delivery d;
CALL crash();
SELECT * FROM next();
CALL crash();
SELECT * FROM next();
SELECT "position" - :head AS nth, attempts, error FROM outbox.dead_letter WHERE subscription = 'd';
SELECT failed, (SELECT last_error FROM outbox.status WHERE name = 'd') FROM standing WHERE name = 'd';
SELECT ack_last();
SELECT * FROM next();
SELECT ack_last();
SELECT lag, retrying, parked, dead, delivered, failed FROM standing WHERE name = 'd';
-- what was acked is not to blame: of several, one is left
SELECT count(outbox.publish('D', key => 'k' || n)) FROM generate_series(1, 4) n;
CALL outbox.run();
SELECT * FROM next();
SELECT ack_last(41, 42, 44);
CALL crash();
SELECT * FROM next();
SELECT ack_last();
SELECT lag, retrying, parked, dead, delivered, failed FROM standing WHERE name = 'd';
-- a transaction that commits without a word
SELECT outbox.publish('D') > 0 AS published;
CALL outbox.run();
BEGIN;
SELECT * FROM next(NULL);
COMMIT;
SELECT * FROM next();
-- under its receipt nothing else is handed out with it
SELECT outbox.publish('D') > 0 AS published;
CALL outbox.run();
SELECT count(*) FROM outbox.receive('d', 10, receipt => (SELECT max(receipt) FROM outbox.progress));
SELECT ack_last();
SELECT * FROM next();
SELECT ack_last();
-- one that is undone, as often as it is
SELECT outbox.head() AS head, set_config('pull.head', outbox.head()::text, false) IS NOT NULL AS set \gset
SELECT count(outbox.publish('D', key => 'k' || n)) FROM generate_series(1, 12) n;
CALL outbox.run();
BEGIN;
SELECT * FROM next(NULL);
SELECT ack_last(1, 2);
ROLLBACK;
BEGIN;
SELECT * FROM next(NULL);
ROLLBACK;
BEGIN;
SELECT * FROM next(NULL);
ROLLBACK;
SELECT count(*) FROM outbox.delivery WHERE state <> 'dead';
BEGIN;
SELECT * FROM next(NULL);
ROLLBACK;
BEGIN;
SELECT * FROM next(NULL);
SELECT "position" - :head AS nth, attempts, error ~ '^consumer ended without ack at ' AS blamed
FROM outbox.dead_letter WHERE "position" > :head;
SELECT ack_last();
COMMIT;
BEGIN;
SELECT * FROM next(NULL);
SELECT outbox.release('d', max(receipt)) FROM outbox.progress;
ROLLBACK;
SELECT failed FROM standing WHERE name = 'd';
BEGIN;
SELECT * FROM next(NULL);
SELECT ack_last();
COMMIT;
SELECT outbox.unsubscribe('d');

-- what waits, for what, and who has it
SELECT outbox.subscribe('v', '{V}', backoff => '1 hour');
SELECT outbox.head() AS head \gset
CALL emit('V', 'a', 'b', 'a', 'c', 'a');
CALL outbox.run();
CREATE VIEW waiting AS
    SELECT w.subscription, w."position", w.key, w.state, w.attempts, w.next_at > now() AS later, w.waits_for,
           w.holder, w.holder_pid = pg_backend_pid() AS is_mine, w.lease_until > now() AS leased, w.sqlstate, w.error
    FROM outbox.waiting w;
SET application_name = 'consumer 7';
SELECT count(*) FROM receive('v', 4, '1 hour');
SELECT subscription, "position" - :head AS nth, key, state, attempts, holder, is_mine, leased FROM waiting ORDER BY 2;
SELECT lanes_held, holder, holder_pid = pg_backend_pid() AS is_mine, lease_until > now() AS leased FROM outbox.status WHERE name = 'v';
SELECT outbox.nack('v', receipt(), :head + 1, 'bad'), outbox.ack('v', receipt(), :head + 2);
SELECT "position" - :head AS nth, key, state, attempts, later, waits_for - :head AS waits_for, holder, sqlstate, error FROM waiting ORDER BY 1;
SELECT outbox.release('v', receipt());
SELECT lanes_held, holder, holder_pid, lease_until FROM outbox.status WHERE name = 'v';
SELECT outbox.ack('v', max(receipt)) FROM outbox.receive('v', lease => '1 hour');
SELECT "position" - :head AS nth, key, state, attempts, later, waits_for - :head AS waits_for FROM waiting ORDER BY 1;
-- now, or away: a retry, but not what waits for it
SELECT state, message = format('position %s of subscription "v" is parked', :head + 3) AS is_parked, detail, hint
FROM refusal(format($$ SELECT outbox.redrive('v', %s) $$, :head + 3));
SELECT outbox.redrive('v', :head + 1), outbox.redrive('v');
SELECT r."position" - :head AS nth, r.attempt FROM outbox.receive('v', 1, '1 hour') r;
SELECT "position" - :head AS nth, state, attempts, holder FROM waiting ORDER BY 1;
SELECT outbox.discard('v', :head + 1), outbox.discard('v');
SELECT state FROM refusal(format($$ SELECT outbox.ack('v', (SELECT max(receipt) FROM outbox.progress), %s) $$, :head + 1));
SELECT outbox.ack('v', max(receipt)) FROM outbox.progress;
SELECT r."position" - :head AS nth, r.attempt FROM outbox.receive('v', 10, '1 hour') r;
SELECT outbox.nack('v', max(receipt), :head + 3, 'never', final => true) FROM outbox.progress;
SELECT "position" - :head AS nth, sqlstate, error, error_context FROM outbox.dead_letter WHERE subscription = 'v';
SELECT outbox.unsubscribe('v');
RESET application_name;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA pull CASCADE;
DROP ROLE regress_pull_owner, regress_pull_other;
