-- Event types and their contracts.
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_outbox_registrar, regress_outbox_other, regress_outbox_producer;
CREATE ROLE regress_outbox_registrar;
CREATE ROLE regress_outbox_other;
CREATE ROLE regress_outbox_producer;
RESET client_min_messages;
CREATE EXTENSION pg_outbox;
SET application_name = 'contracts';
\set SHOW_CONTEXT errors

-- unregistered types are free
SELECT outbox.publish('Free', '"anything"') > 0 AS emitted;
SELECT outbox.register_type('OrderPlaced', $$ jsonb_typeof(data->'amount') = 'number' AND (data->>'amount')::numeric > 0 $$, 'a customer has placed an order');
SELECT outbox.register_type('Plain', description => 'no contract');
SELECT type, contract, description, registered_by = current_user AS mine, registered_at <= now() AS registered FROM outbox.event_type ORDER BY type;

SELECT outbox.publish('OrderPlaced', '{"amount": 5}') > 0 AS emitted;
SELECT outbox.publish('Plain', '[]') > 0 AS emitted;
-- the SQLSTATE says what it is
DO $$
BEGIN
    PERFORM outbox.publish('OrderPlaced', '{"amount": "5"}');
EXCEPTION WHEN SQLSTATE 'OB005' THEN
    RAISE INFO 'OB005: %', SQLERRM;
END $$;
-- false, null, and an error are a breach
SELECT outbox.publish('OrderPlaced', '{"amount": 0}');
SELECT outbox.publish('OrderPlaced', '{}');
SELECT outbox.register_type('Cast', $$ (data->>'n')::integer > 0 $$);
SELECT outbox.publish('Cast', '{"n": "x"}');
SELECT outbox.publish_many('[{"type": "OrderPlaced", "data": {"amount": 1}}, {"type": "OrderPlaced"}]');
-- nothing of it is in the log
SELECT type, data FROM outbox.event ORDER BY id;

-- captured: the writer's statement fails
CREATE TABLE orders (id integer PRIMARY KEY, amount numeric);
SELECT outbox.capture('orders');
SELECT outbox.register_type('orders.inserted', $$ data->'amount' <> 'null' $$);
INSERT INTO orders VALUES (1, 10);
INSERT INTO orders VALUES (2, 20), (3, NULL);
COPY orders FROM stdin;
4	\N
\.
BEGIN;
SAVEPOINT s;
INSERT INTO orders VALUES (5, NULL);
ROLLBACK TO s;
INSERT INTO orders VALUES (6, 6);
COMMIT;
SELECT id FROM orders ORDER BY id;
SELECT type, data FROM outbox.event WHERE source = 'public.orders' ORDER BY id;
-- what moves to another partition is not deleted
CREATE TABLE part (id integer PRIMARY KEY, v integer) PARTITION BY RANGE (id);
CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (10);
CREATE TABLE part_high PARTITION OF part FOR VALUES FROM (10) TO (20);
SELECT outbox.capture('part');
SELECT outbox.register_type('part.deleted', 'false', 'rows stay');
INSERT INTO part VALUES (1, 1);
UPDATE part SET id = 11;
DELETE FROM part;
-- ... but what gets lost on its way is
CREATE FUNCTION loses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER loses BEFORE INSERT ON part_low FOR EACH ROW EXECUTE FUNCTION loses();
UPDATE part SET id = 2;
SELECT id FROM part;
SELECT type, data FROM outbox.event WHERE source = 'public.part' ORDER BY id;
SELECT outbox.unregister_type('part.deleted');

-- in a handler it is a failure like any other
CREATE FUNCTION emits(e outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT outbox.publish('OrderPlaced', '{"amount": -1}') $$;
SELECT outbox.subscribe('emits', '{Plain}', 'emits', max_attempts => 1);
SELECT outbox.publish('Plain') > 0 AS emitted;
CALL outbox.run();
SELECT type, error, error_detail FROM outbox.dead_letter;
SELECT outbox.unsubscribe('emits');

-- what is to come is checked when it is published; what was scheduled enters the log
SELECT outbox.publish('OrderPlaced', '{"amount": -2}', deliver_at => clock_timestamp() + interval '1 day');
SELECT outbox.register_type('Later', $$ data <> '1' $$);
SELECT outbox.publish('Later', '2', deliver_at => clock_timestamp() + interval '50 milliseconds');
SELECT outbox.register_type('Later', $$ data <> '2' $$);
SELECT pg_sleep(0.06);
CALL outbox.run();
SELECT type, data FROM outbox.event WHERE type = 'Later';
-- what an aggregate emits
CREATE FUNCTION counts(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT to_jsonb(coalesce(state::integer, 0) + 1) $$;
SELECT outbox.register_type('Counts', $$ data <> '2' $$);
SELECT outbox.aggregate('counts', '{Plain}', 'Counts', 'counts', max_events => 2);
SELECT count(outbox.publish('Plain')) FROM generate_series(1, 2);
CALL outbox.run();
SELECT name, state, last_error FROM outbox.status WHERE name = 'counts';
SELECT count(*) FROM outbox.event WHERE type = 'Counts';
SELECT outbox.unsubscribe('counts');

-- strict: what is not registered cannot be emitted
SET outbox.strict_types = on;
SELECT outbox.publish('Free');
UPDATE orders SET amount = 11 WHERE id = 1;
SELECT outbox.publish('Plain') > 0 AS emitted;
RESET outbox.strict_types;
SELECT outbox.publish('Free') > 0 AS emitted;

-- replacing: the newest events are looked at, and those to come are checked
SELECT count(outbox.publish('Counted', jsonb_build_object('n', g))) FROM generate_series(1, 1500) g;
SELECT outbox.register_type('Counted', $$ (data->>'n')::integer <= 500 $$, 'first');
SELECT outbox.register_type('Counted', $$ (data->>'n')::integer > 500 $$);
SELECT outbox.register_type('Counted', $$ (data->>'n')::integer > 501 $$, 'third');
-- an error of the contract is a breach, too
SELECT outbox.register_type('Counted', $$ 1 / ((data->>'n')::integer - 1500) <> 5 $$, 'fourth');
-- also of events without a position, of this transaction, and not those rolled back
BEGIN;
SELECT outbox.register_type('Counted');
SELECT outbox.publish('Counted', '{"n": 1500}') > 0 AS emitted;
SAVEPOINT s;
SELECT outbox.publish('Counted', '{"n": 1500}') > 0 AS emitted;
ROLLBACK TO s;
SELECT outbox.register_type('Counted', $$ 1 / ((data->>'n')::integer - 1500) <> 5 $$, 'fifth');
ROLLBACK;
SELECT description FROM outbox.event_type WHERE type = 'Counted';
SELECT outbox.register_type('Counted', description => 'free again');
SELECT outbox.publish('Counted') > 0 AS emitted;

-- registrations belong to their transaction, and to their savepoint
BEGIN;
SELECT outbox.register_type('Local', 'false');
SELECT outbox.publish('Local');
ROLLBACK;
SELECT outbox.publish('Local') > 0 AS emitted;
BEGIN;
SAVEPOINT s;
SELECT outbox.unregister_type('OrderPlaced');
SELECT outbox.publish('OrderPlaced', '0') > 0 AS emitted;
ROLLBACK TO s;
SELECT outbox.publish('OrderPlaced', '0') > 0 AS emitted;
ROLLBACK;
SELECT outbox.unregister_type('OrderPlaced');
SELECT outbox.publish('OrderPlaced', '0') > 0 AS emitted;

-- a function that is replaced, and one that goes
CREATE FUNCTION is_fine(data jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT data->>'fine' = 'yes' $$;
SELECT outbox.register_type('Fine', 'is_fine(data)');
SELECT outbox.publish('Fine', '{"fine": "yes"}') > 0 AS emitted;
SELECT outbox.publish('Fine', '{"fine": "no"}');
CREATE OR REPLACE FUNCTION is_fine(data jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$ SELECT data->>'fine' = 'no' $$;
SELECT outbox.publish('Fine', '{"fine": "no"}') > 0 AS emitted;
-- a validator that says why, as those of pg_jsonschema and the like
CREATE OR REPLACE FUNCTION is_fine(data jsonb) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN IF NOT data ? 'fine' THEN RAISE EXCEPTION 'there is no "fine"' USING ERRCODE = '22023'; END IF; RETURN true; END $$;
SELECT outbox.publish('Fine');
DROP FUNCTION is_fine;
\set VERBOSITY terse
SELECT outbox.publish('Fine', '{"fine": "no"}');
\set VERBOSITY default
SELECT outbox.unregister_type('Fine');
-- one that emits
CREATE FUNCTION emits_too(data jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT outbox.publish('Free') > 0 $$;
SELECT outbox.register_type('Emits', 'emits_too(data)');
SELECT outbox.publish('Emits');
SELECT outbox.publish('Free') > 0 AS emitted;
SELECT outbox.unregister_type('Emits');

-- many types
SELECT count(outbox.register_type('Type' || g, format($c$ data = '%s' $c$, g))) FROM generate_series(1, 300) g;
SELECT count(outbox.publish('Type' || g, to_jsonb(g))) FROM generate_series(1, 300) g;
SELECT outbox.publish('Type77', '78');
SELECT count(outbox.unregister_type('Type' || g)) FROM generate_series(1, 300) g;

-- what a contract may be
SELECT outbox.register_type(NULL);
SELECT outbox.register_type('');
SELECT outbox.register_type('Order*');
SELECT outbox.register_type(repeat('x', 201));
SELECT outbox.register_type('T', '');
SELECT outbox.register_type('T', 'data =');
SELECT outbox.register_type('T', 'true; DROP TABLE orders');
SELECT outbox.register_type('T', 'true AS x');
SELECT outbox.register_type('T', 'data');
SELECT outbox.register_type('T', $$ key = 'x' $$);
SELECT outbox.register_type('T', $$ event.data = 'x' AND outbox.event IS NOT NULL $$);
SELECT outbox.register_type('T', 'ctid IS NULL');
SELECT outbox.register_type('T', 'count(data) > 0');
SELECT outbox.register_type('T', 'EXISTS (SELECT)');
SELECT outbox.register_type('T', 'data = $1');
\set VERBOSITY terse
SELECT outbox.register_type('T', 'no_such_function(data)');
\set VERBOSITY default
SELECT outbox.register_type('T', 'jsonb_array_elements(data) IS NULL');
SELECT outbox.register_type('T', '1/0 = 1');
CREATE FUNCTION pg_temp.mine(jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
SELECT outbox.register_type('T', 'pg_temp.mine(data)');
CREATE DOMAIN pg_temp.positive AS integer CHECK (value > 0);
SELECT outbox.register_type('T', '(data::integer)::positive > 0');
SELECT outbox.register_type('T', '(data->>0)::pg_temp.positive[] IS NULL');
SELECT outbox.register_type('T', 'false -- nothing goes');
SELECT outbox.publish('T');
SELECT outbox.unregister_type('T');
SELECT outbox.unregister_type('T');
SELECT outbox.unregister_type(NULL);
SELECT outbox.types_changed();

-- whose it is
GRANT EXECUTE ON FUNCTION outbox.register_type, outbox.unregister_type TO regress_outbox_registrar, regress_outbox_other;
GRANT EXECUTE ON FUNCTION outbox.publish TO regress_outbox_producer;
SET ROLE regress_outbox_producer;
SELECT outbox.register_type('Mine');
SELECT outbox.unregister_type('Mine');
SELECT * FROM outbox.event_type;
SET outbox.strict_types = on;
RESET ROLE;
CREATE FUNCTION secret(jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT true';
REVOKE EXECUTE ON FUNCTION secret FROM PUBLIC;
SET ROLE regress_outbox_registrar;
SELECT outbox.register_type('Mine', 'secret(data)');
RESET ROLE;
CREATE TABLE noted (who name, path text);
GRANT INSERT ON noted TO regress_outbox_registrar;
CREATE FUNCTION notes(jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.noted VALUES (current_user, current_setting('search_path'));
    RETURN true;
END $$;
REVOKE EXECUTE ON FUNCTION notes FROM PUBLIC;
GRANT EXECUTE ON FUNCTION notes TO regress_outbox_registrar;
SET ROLE regress_outbox_registrar;
SET search_path = pg_temp, "$user", public, "odd ""one""";
SELECT outbox.register_type('Mine', 'notes(data) AND current_user::text = ''regress_outbox_registrar''');
RESET search_path;
SET ROLE regress_outbox_other;
SELECT outbox.register_type('Mine');
SELECT outbox.unregister_type('Mine');
-- it runs as its registrar, and leaves the producer what it is
SET ROLE regress_outbox_producer;
SELECT outbox.publish('Mine') > 0 AS emitted, current_user;
RESET ROLE;
SELECT * FROM noted;
-- rights that are taken away
REVOKE EXECUTE ON FUNCTION notes FROM regress_outbox_registrar;
SET ROLE regress_outbox_producer;
SELECT outbox.publish('Mine');
RESET ROLE;
-- ... and come by another role, until it is left
GRANT EXECUTE ON FUNCTION notes TO regress_outbox_other;
GRANT regress_outbox_other TO regress_outbox_registrar;
SELECT outbox.publish('Mine') > 0 AS emitted;
REVOKE regress_outbox_other FROM regress_outbox_registrar;
SELECT outbox.publish('Mine');
GRANT EXECUTE ON FUNCTION notes TO regress_outbox_registrar;
SELECT outbox.publish('Mine') > 0 AS emitted;
REVOKE ALL ON FUNCTION notes FROM regress_outbox_other;
-- a registrar that goes, which the type would refuse
REVOKE ALL ON FUNCTION notes, outbox.register_type, outbox.unregister_type FROM regress_outbox_registrar;
REVOKE ALL ON noted FROM regress_outbox_registrar;
DROP ROLE regress_outbox_registrar;
ALTER EVENT TRIGGER outbox_capture_follow_drop DISABLE;
DROP OWNED BY regress_outbox_registrar;
ALTER EVENT TRIGGER outbox_capture_follow_drop ENABLE ALWAYS;
DROP ROLE regress_outbox_registrar;
SELECT outbox.publish('Mine');
SELECT outbox.register_type('Mine', 'true');
SELECT outbox.publish('Mine') > 0 AS emitted;

-- a producer with objects of its own in front, and with another search_path
CREATE SCHEMA planted;
GRANT ALL ON SCHEMA planted TO regress_outbox_producer;
CREATE DOMAIN public.email AS text CHECK (value ~ '@');
CREATE FUNCTION public.is_long(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN length($1) > limit_of() ; END $$;
CREATE FUNCTION public.limit_of() RETURNS integer LANGUAGE sql AS 'SELECT 3';
SELECT outbox.register_type('Guarded', $$ (data->>'to')::email IS NOT NULL AND is_long(data->>'to') AND data->>'to' = lower(data->>'to') $$);
SELECT expression FROM outbox.registered_type WHERE type = 'Guarded';
SET ROLE regress_outbox_producer;
CREATE FUNCTION planted.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped as %', current_user; END $$;
CREATE DOMAIN pg_temp.email AS text CHECK (planted.trap());
CREATE DOMAIN planted.email AS text CHECK (planted.trap());
CREATE FUNCTION planted.limit_of() RETURNS integer LANGUAGE sql AS 'SELECT planted.trap()::integer';
CREATE FUNCTION planted.is_long(text) RETURNS boolean LANGUAGE sql AS 'SELECT planted.trap()';
CREATE FUNCTION planted.lower(text) RETURNS text LANGUAGE sql AS 'SELECT planted.trap()::text';
CREATE FUNCTION planted.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT planted.trap()';
CREATE OPERATOR planted.= (FUNCTION = planted.eq, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION planted.arrow(jsonb, text) RETURNS text LANGUAGE sql AS 'SELECT planted.trap()::text';
CREATE OPERATOR planted.->> (FUNCTION = planted.arrow, LEFTARG = jsonb, RIGHTARG = text);
CREATE TYPE planted.jsonb AS (x integer);
SET search_path = planted, pg_temp, pg_catalog, public;
SELECT outbox.publish('Guarded', '{"to": "a@b.c"}') OPERATOR(pg_catalog.>) 0 AS emitted;
SELECT outbox.publish('Guarded', '{"to": "a.b.c"}');
SELECT outbox.publish('Guarded', '{"to": "@"}');
RESET search_path;
RESET ROLE;
SET client_min_messages = warning;
DROP SCHEMA planted CASCADE;
DISCARD TEMP;

DROP EXTENSION pg_outbox CASCADE;
DROP TABLE orders, part, noted;
DROP FUNCTION loses, emits_too, secret, notes, is_long, limit_of;
DROP DOMAIN email;
DROP ROLE regress_outbox_other, regress_outbox_producer;
