-- outbox.capture() and outbox.uncapture(): what can be asked for, what is
-- refused, and what the view outbox.capture_rule says of it.
CREATE EXTENSION pg_outbox;
SET client_encoding = 'UTF8';

CREATE TABLE orders (
    id integer PRIMARY KEY,
    customer integer,
    status text,
    amount numeric,
    secret text
);

-- defaults
SELECT outbox.capture('orders');
SELECT * FROM outbox.capture_rule;
INSERT INTO orders VALUES (1, 7, 'new', 10.50, 'x');
UPDATE orders SET status = 'paid' WHERE id = 1;
DELETE FROM orders;
TRUNCATE orders;
SELECT id, type, source, key, operation, data, old, headers FROM outbox.event ORDER BY id;

-- several rules for one table, with everything that can be said
SELECT outbox.capture('orders', operations => '{insert}', type => 'OrderPlaced');
SELECT outbox.capture('orders', operations => '{update}', type => 'OrderPaid',
                      condition => 'old.status <> new.status and new.status = ''paid''',
                      columns => '{id,status,amount}');
SELECT outbox.capture('orders', operations => '{truncate}', type => 'OrdersGone', name => 'gone');
SELECT outbox.capture('orders', '{delete,update}', key => '{customer,id}', exclude => '{secret}',
                      old_values => 'all', name => 'audit "trail"');
SELECT name, operations, type, condition, key, columns, old_values FROM outbox.capture_rule ORDER BY name;

-- a name is taken
SELECT outbox.capture('orders');
SELECT outbox.capture('orders', type => 'OrderPaid');
SELECT outbox.capture('orders', type => 'SomethingElse', name => 'gone');

-- removing
SELECT outbox.uncapture('orders', 'OrderPaid');
SELECT outbox.uncapture('orders', 'OrderPaid');
SELECT outbox.uncapture('orders', 'orders');
SELECT name FROM outbox.capture_rule ORDER BY name;
SELECT outbox.uncapture('orders');
SELECT outbox.uncapture('orders');
SELECT count(*) FROM outbox.capture_rule;
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass;

-- what the condition mentions decides what it can serve
SELECT outbox.capture('orders', condition => 'new.amount > 1', name => 'new');
SELECT outbox.capture('orders', condition => 'old.amount > 1', name => 'old');
SELECT outbox.capture('orders', condition => 'old.amount > new.amount', name => 'both');
SELECT outbox.capture('orders', condition => 'current_user <> ''new.amount''', name => 'neither');
SELECT outbox.capture('orders', condition => 'old is distinct from new', name => 'whole rows');
SELECT outbox.capture('orders', '{insert}', condition => 'new.amount > 1 -- and no more', name => 'comment');
SELECT name, operations, condition FROM outbox.capture_rule ORDER BY name;
SELECT outbox.capture('orders', '{insert}', condition => 'old.amount > 1', name => 'refused');
SELECT outbox.capture('orders', '{delete}', condition => 'new.amount > 1', name => 'refused');
SELECT outbox.capture('orders', '{insert,update}', condition => 'old.amount > new.amount', name => 'refused');
SELECT outbox.capture('orders', '{update,truncate}', condition => 'true', name => 'refused');
SELECT outbox.uncapture('orders');

-- conditions that are none
SELECT outbox.capture('orders', condition => '');
SELECT outbox.capture('orders', condition => 'new.amount >');
SELECT outbox.capture('orders', condition => 'new.amount > 1 from orders');
SELECT outbox.capture('orders', condition => 'true, false');
SELECT outbox.capture('orders', condition => 'true as x');
SELECT outbox.capture('orders', condition => 'true; drop table orders');
SELECT outbox.capture('orders', condition => 'distinct true');
SELECT outbox.capture('orders', condition => 'true limit 1');
SELECT outbox.capture('orders', condition => 'true union select false');
SELECT outbox.capture('orders', condition => 'new.amount');
SELECT outbox.capture('orders', condition => 'new.amonut > 1');
SELECT outbox.capture('orders', condition => 'amount > 1');
SELECT outbox.capture('orders', condition => 'new.amount > (select 1)');
SELECT outbox.capture('orders', condition => 'count(*) > 1');
\set VERBOSITY terse
SELECT outbox.capture('orders', condition => 'missing_function(new.amount)');
\set VERBOSITY default
SELECT outbox.capture('orders', condition => 'new.amount > $1');

-- other arguments
SELECT outbox.capture(NULL);
SELECT outbox.capture('missing');
SELECT outbox.capture(1::oid::regclass);
SELECT outbox.capture('orders', '{}');
SELECT outbox.capture('orders', '{insert,NULL}');
SELECT outbox.capture('orders', '{{insert},{update}}');
SELECT outbox.capture('orders', '{INSERT}');
SELECT outbox.capture('orders', '{insert,upsert}');
SELECT outbox.capture('orders', '{insert,insert}');
SELECT outbox.capture('orders', type => '');
SELECT outbox.capture('orders', type => 'a*');
SELECT outbox.capture('orders', type => repeat('x', 201));
SELECT outbox.capture('orders', name => '');
SELECT outbox.capture('orders', name => repeat('x', 201));
SELECT outbox.capture('orders', columns => '{}');
SELECT outbox.capture('orders', key => '{id,missing}');
SELECT outbox.capture('orders', key => '{id,id}');
SELECT outbox.capture('orders', key => '{ID}');
SELECT outbox.capture('orders', columns => '{}');
SELECT outbox.capture('orders', columns => '{id,NULL}');
SELECT outbox.capture('orders', columns => '{id,missing}');
SELECT outbox.capture('orders', columns => '{id,status,id}');
SELECT outbox.capture('orders', columns => '{ctid}');
SELECT outbox.capture('orders', columns => '{id}', exclude => '{secret}');
SELECT outbox.capture('orders', exclude => '{}');
SELECT outbox.capture('orders', exclude => '{missing}');
SELECT outbox.capture('orders', exclude => '{id,customer,status,amount,secret}');
SELECT outbox.capture('orders', old_values => 'some');
SELECT outbox.capture('orders', '{insert}', old_values => 'all');
SELECT outbox.uncapture(NULL);
SELECT outbox.uncapture('orders', 'missing');
BEGIN READ ONLY;
SELECT outbox.capture('orders');
ROLLBACK;
BEGIN READ ONLY;
SELECT outbox.uncapture('orders');
ROLLBACK;
SELECT count(*) FROM outbox.capture_rule;

-- and under which code
CREATE FUNCTION code_of(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'SELECT outbox.' || call;
    RETURN 'none';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END
$$;
CREATE VIEW order_view AS SELECT * FROM orders;
SELECT call, code_of(call) FROM (VALUES
    ('capture(NULL)'),
    ($$capture(1::oid::regclass)$$),
    ($$capture('order_view')$$),
    ($$capture('pg_class')$$),
    ($$capture('orders', '{}')$$),
    ($$capture('orders', '{upsert}')$$),
    ($$capture('orders', '{insert,NULL}')$$),
    ($$capture('orders', '{{insert},{update}}')$$),
    ($$capture('orders', type => '')$$),
    ($$capture('orders', type => repeat('x', 201))$$),
    ($$capture('orders', name => '')$$),
    ($$capture('orders', name => repeat('x', 201))$$),
    ($$capture('orders', key => '{missing}')$$),
    ($$capture('orders', key => '{ctid}')$$),
    ($$capture('orders', columns => '{id,id}')$$),
    ($$capture('orders', columns => '{id}', exclude => '{id}')$$),
    ($$capture('orders', old_values => 'some')$$),
    ($$capture('orders', condition => 'new.')$$),
    ($$capture('orders', condition => 'true; drop table orders')$$),
    ($$capture('orders', condition => 'new.missing')$$),
    ($$capture('orders', condition => 'new.id')$$),
    ($$capture('orders', '{insert}', condition => 'old.id = 1')$$),
    ($$uncapture('orders', 'missing')$$)) AS calls (call);

-- what is no table of the user's
CREATE MATERIALIZED VIEW order_matview AS SELECT * FROM orders;
CREATE SEQUENCE order_seq;
CREATE TEMPORARY TABLE order_temp (id integer);
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE order_foreign (id integer) SERVER nowhere;
SELECT outbox.capture('order_view');
SELECT outbox.capture('order_matview');
SELECT outbox.capture('order_seq');
SELECT outbox.capture('order_temp');
SELECT outbox.capture('order_foreign');
SELECT outbox.capture('order_foreign', key => '{id}');
SELECT outbox.capture('orders_pkey');
SELECT outbox.capture('pg_class');
SELECT outbox.capture('outbox.event');
SELECT outbox.capture('outbox.subscription');
CREATE TABLE "star*" (id integer);
SELECT outbox.capture('"star*"');
SELECT outbox.capture('"star*"', type => 'Star', key => '{}');
INSERT INTO "star*" VALUES (1);
SELECT type, source, key FROM outbox.event ORDER BY id DESC LIMIT 1;

-- Only the owner; no right on our functions but on capture(), and for those
-- who write none at all.
CREATE ROLE regress_outbox_owner;
CREATE ROLE regress_outbox_writer;
CREATE ROLE regress_outbox_other;
GRANT USAGE ON SCHEMA outbox TO regress_outbox_owner, regress_outbox_other;
GRANT EXECUTE ON FUNCTION outbox.capture
    TO regress_outbox_owner, regress_outbox_other;
GRANT EXECUTE ON FUNCTION outbox.uncapture(regclass, text) TO regress_outbox_owner, regress_outbox_other;
REVOKE EXECUTE ON FUNCTION outbox.capture_row() FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION outbox.capture_statement() FROM PUBLIC;
GRANT SELECT ON outbox.capture_rule TO regress_outbox_other;
CREATE SCHEMA owned AUTHORIZATION regress_outbox_owner;
SET ROLE regress_outbox_owner;
SET search_path = owned, pg_catalog;
CREATE FUNCTION is_big(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 100';
CREATE TABLE items (id integer PRIMARY KEY, amount numeric);
GRANT INSERT ON items TO regress_outbox_writer;
GRANT USAGE ON SCHEMA owned TO regress_outbox_writer, regress_outbox_other;
SELECT outbox.capture('items', condition => 'is_big(new.amount)');
SELECT current_user;
RESET search_path;
SET ROLE regress_outbox_writer;
INSERT INTO owned.items VALUES (1, 5), (2, 500);
SET ROLE regress_outbox_other;
SELECT outbox.capture('owned.items', name => 'mine');
SELECT outbox.uncapture('owned.items');
SELECT relation, name, operations, type, condition, key, columns, old_values
FROM outbox.capture_rule WHERE relation = 'owned.items'::regclass;
RESET ROLE;
SELECT type, source, key, data FROM outbox.event WHERE source = 'owned.items';
-- what the condition uses cannot go without it
DROP FUNCTION owned.is_big(numeric);
ALTER TABLE owned.items DROP COLUMN amount;
ALTER TABLE owned.items DROP COLUMN amount CASCADE;
SELECT count(*) FROM outbox.capture_rule WHERE relation = 'owned.items'::regclass;

-- long and strange names: triggers have 63 bytes
CREATE TABLE "a table with ""quotes"", 'more', \ and ümläuts, that is long" (
    "the key, ""quoted""" text PRIMARY KEY, "spalte_ä" integer);
SELECT outbox.capture('"a table with ""quotes"", ''more'', \ and ümläuts, that is long"');
SELECT outbox.capture('"a table with ""quotes"", ''more'', \ and ümläuts, that is long"',
                      type => 'a table with "quotes", ''more'', \ and ümläuts, that is long, but this goes on for longer',
                      key => '{"the key, \"quoted\"",spalte_ä}', exclude => '{spalte_ä}');
SELECT outbox.capture('"a table with ""quotes"", ''more'', \ and ümläuts, that is long"',
                      type => 'a table with "quotes", ''more'', \ and ümläuts, that is long, but this goes elsewhere');
SELECT tgname FROM pg_trigger WHERE tgrelid::regclass::text LIKE '%quotes%' AND NOT tgisinternal ORDER BY tgname COLLATE "C";
INSERT INTO "a table with ""quotes"", 'more', \ and ümläuts, that is long" VALUES ('k''"\', 1);
SELECT type, source, key, data FROM outbox.event ORDER BY id DESC LIMIT 3;
SELECT name, key, columns FROM outbox.capture_rule WHERE relation::text LIKE '%quotes%' ORDER BY name COLLATE "C";

-- names that look like triggers of other rules
CREATE TABLE clash (id integer PRIMARY KEY);
SELECT outbox.capture('clash', name => 'x');
SELECT outbox.capture('clash', name => 'x_truncate');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'clash'::regclass ORDER BY tgname COLLATE "C";
SELECT name, operations FROM outbox.capture_rule WHERE relation = 'clash'::regclass ORDER BY name;
SELECT outbox.uncapture('clash', 'x');
SELECT name, operations FROM outbox.capture_rule WHERE relation = 'clash'::regclass ORDER BY name;

-- rules go with their table, and with the extension
DROP TABLE clash;
SELECT count(*) FROM outbox.capture_rule WHERE name = 'x_truncate';
SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'outbox%';

DROP SCHEMA owned CASCADE;
DROP OWNED BY regress_outbox_owner, regress_outbox_writer, regress_outbox_other;
DROP ROLE regress_outbox_owner, regress_outbox_writer, regress_outbox_other;
DROP TABLE orders, "star*" CASCADE;
DROP TABLE "a table with ""quotes"", 'more', \ and ümläuts, that is long";
DROP FOREIGN DATA WRAPPER nothing CASCADE;
DROP SEQUENCE order_seq;
DROP FUNCTION code_of(text);
