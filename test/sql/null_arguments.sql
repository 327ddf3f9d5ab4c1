-- SQL NULL for an argument that has a default means the default, as wrappers
-- and object-relational mappers pass it: for every function of the schema.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA nulls;
SET search_path = nulls;
SET client_min_messages = error;
CREATE FUNCTION fold(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION fails(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'down'; END $$;
CREATE TABLE plain (id int PRIMARY KEY);
CREATE TABLE ruled (id int PRIMARY KEY);
INSERT INTO ruled VALUES (1), (2);
SELECT outbox.capture('ruled') AS rule \gset
SELECT outbox.subscribe('pulled', start => 'beginning');
SELECT outbox.subscribe('failing', handler => 'fails', max_attempts => 1);
SELECT outbox.publish('A', key => 'k' || i) FROM generate_series(1, 3) i;
CALL outbox.run();
SELECT count(*), min(receipt) AS receipt FROM outbox.receive('pulled', 3, lease => '1 hour') \gset

-- how each is called: what has no default, what is looked at of a row of its
-- result, and what it has changed
CREATE TABLE call (name text, required text, shown text, changed text DEFAULT 'SELECT 1');
INSERT INTO call VALUES
    ('publish', '$$T$$', 'r IS NOT NULL', $$SELECT to_jsonb(e) - 'id' - 'xid' - 'time' - 'correlation_id' FROM outbox.event e ORDER BY id DESC LIMIT 1$$),
    ('try_publish', '$$T$$', 'r.outcome', $$SELECT to_jsonb(e) - 'id' - 'xid' - 'time' - 'correlation_id' FROM outbox.event e ORDER BY id DESC LIMIT 1$$),
    ('capture', '$$nulls.plain$$', 'r', $$SELECT to_jsonb(c) FROM outbox.capture_rule c WHERE relation = 'nulls.plain'::regclass$$),
    ('uncapture', '$$nulls.ruled$$', 'r', $$SELECT count(*) FROM outbox.capture_rule$$),
    ('snapshot', '$$nulls.ruled$$', 'r', DEFAULT),
    ('subscribe', '$$new$$', '1', $$SELECT to_jsonb(s) - 'id' - 'created_at' - 'start_snapshot' - 'first_position' FROM outbox.subscription s WHERE name = 'new'$$),
    ('alter_subscription', '$$failing$$', '1', $$SELECT to_jsonb(s) FROM outbox.subscription s WHERE name = 'failing'$$),
    ('seek', '$$failing$$', 'r', DEFAULT),
    ('seek', '$$failing$$, to_position => 2', 'r', DEFAULT),
    ('aggregate', $$'new', '{A}', 'B', 'nulls.fold'$$, '1', DEFAULT),
    ('aggregate', $$'new', '{A}', 'B', 'nulls.fold', max_events => 2$$, '1', $$SELECT to_jsonb(s) - 'id' - 'created_at' - 'start_snapshot' - 'first_position' FROM outbox.subscription s WHERE name = 'new'$$),
    ('register_type', '$$A$$', 'r', $$SELECT to_jsonb(t) - 'registered_at' FROM outbox.event_type t$$),
    ('read', '', 'r', DEFAULT),
    ('receive', '$$pulled$$', 'r', DEFAULT),
    ('ack', '$$pulled$$, 1', '1', $$SELECT lanes_held FROM outbox.status WHERE name = 'pulled'$$),
    ('nack', '$$pulled$$, 1, 2', '1', $$SELECT to_jsonb(w) - 'next_at' - 'time' - 'lease_until' - 'history' FROM outbox.waiting w WHERE subscription = 'pulled' AND position = 2$$),
    ('redrive', '$$failing$$', 'r', $$SELECT count(*) FROM outbox.dead_letter$$),
    ('discard', '$$failing$$', 'r', $$SELECT count(*) FROM outbox.dead_letter$$),
    ('wait', '', 'r', DEFAULT);

-- what a call comes to, which is undone
CREATE FUNCTION outcome(call nulls.call, more text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
    changed text;
BEGIN
    EXECUTE format('SELECT string_agg((%s)::text, %L) FROM outbox.%I(%s) r', call.shown, E'\n', call.name,
                   concat_ws(', ', nullif(call.required, ''), nullif(more, ''))) INTO result;
    EXECUTE call.changed INTO changed;
    RAISE 'done: % %', result, changed;
EXCEPTION WHEN OTHERS THEN
    RETURN sqlstate || ' ' || sqlerrm;
END
$$;

-- the arguments that have a default, with the functions of the schema
CREATE VIEW argument AS
    SELECT f.proname::text AS name, f.prokind, a.name AS argument
    FROM pg_proc f
    CROSS JOIN LATERAL unnest(f.proargnames[1:f.pronargs]) WITH ORDINALITY AS a (name, number)
    WHERE f.pronamespace = 'outbox'::regnamespace AND a.number > f.pronargs - f.pronargdefaults;

-- none is left out; procedures, which end transactions, are called below
SELECT name, string_agg(argument, ', ') FROM argument WHERE name NOT IN (SELECT name FROM call) GROUP BY name ORDER BY name;
SELECT count(*) > 60 AS many FROM argument;
-- one NULL differs from none given
SELECT c.name, c.required, a.argument, outcome(c, '') AS left_out, outcome(c, a.argument || ' => NULL') AS "null"
FROM call c JOIN argument a ON a.name = c.name
WHERE c.required NOT LIKE '%' || a.argument || ' =>%'
  AND outcome(c, '') IS DISTINCT FROM outcome(c, a.argument || ' => NULL')
ORDER BY c.name, a.argument;
-- all of them
SELECT c.name, outcome(c, '') AS left_out, outcome(c, a.nulls) AS "null"
FROM call c
CROSS JOIN LATERAL (SELECT string_agg(a.argument || ' => NULL', ', ') AS nulls FROM argument a
                    WHERE a.name = c.name AND c.required NOT LIKE '%' || a.argument || ' =>%') a
WHERE outcome(c, '') IS DISTINCT FROM outcome(c, a.nulls)
ORDER BY c.name;
-- and it is the call that is compared, not an error of the test
SELECT c.name, c.required, outcome(c, '') FROM call c WHERE outcome(c, '') NOT LIKE 'P0001 done%' ORDER BY name;

-- procedures
SELECT outbox.ack('pulled', :receipt);
SELECT outbox.publish('A');
CALL outbox.run(NULL);
CALL outbox.await('pulled', NULL, NULL);
SELECT outbox.wait(NULL, '0');
DROP SCHEMA nulls CASCADE;
DROP EXTENSION pg_outbox CASCADE;
