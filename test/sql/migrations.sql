-- A migration that runs again: if_exists keeps what is there, or makes it what
-- the migration asks for, and says so.
CREATE EXTENSION pg_outbox;
CREATE SCHEMA mig;
SET search_path = mig;
CREATE ROLE regress_outbox_team;
CREATE ROLE regress_outbox_other LOGIN;
CREATE FUNCTION on_event(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION "On Event"(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_json(e jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION fold(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION fold_more(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '[]'::jsonb $$;
CREATE VIEW asked AS
    SELECT name, kind, types, handler_name, channel, filter, ordering, concurrency AS lanes, batch_size AS batch,
           max_attempts AS attempts, backoff, timeout, on_exhausted, payload
    FROM outbox.subscription ORDER BY name;

-- as ever
SELECT outbox.subscribe('billing', '{Order*}', handler => 'on_event');
SELECT outbox.subscribe('billing', '{Order*}', handler => 'on_event');
SELECT outbox.subscribe('billing', if_exists => 'maybe');

-- keep: whatever it is, and whatever is asked for
SELECT outbox.subscribe('billing', '{Order*}', handler => 'gone', if_exists => 'keep');
SELECT outbox.aggregate('billing', '{x}', 'y', 'gone', if_exists => 'keep');
SELECT outbox.subscribe('fresh', if_exists => 'keep', concurrency => 2);

-- alter: nothing differs, in whatever way it is written
SELECT outbox.subscribe('billing', '{Order*}', handler => 'mig.on_event', if_exists => 'alter');
SELECT outbox.subscribe('billing', '{Order*}', handler => ' ON_EVENT ', start => 'beginning',
                        backoff => '1000 milliseconds', timeout => NULL, if_exists => 'alter');
SELECT outbox.subscribe('billing', '{Order*}', handler => 'on_event(outbox.event)', start => '4711', if_exists => 'alter');
-- what differs
SELECT outbox.publish('OrderPlaced', key => 'k' || i) FROM generate_series(1, 3) i;
CALL outbox.run();
SELECT outbox.pause('billing');
SELECT outbox.subscribe('billing', '{Order*,Cart*}', handler => '"On Event"', filter => $$ key <> 'x' $$,
                        concurrency => 3, batch_size => 7, max_attempts => 2, backoff => '2 minutes',
                        timeout => 0::text::interval, on_exhausted => 'block', if_exists => 'alter');
SELECT * FROM asked WHERE name = 'billing';
SELECT name, state, delivered FROM outbox.status WHERE name = 'billing';
SELECT outbox.resume('billing');
-- what the migration does not ask for any more is as by default
SELECT outbox.subscribe('billing', '{Order*}', handler => 'on_json', if_exists => 'alter');
SELECT outbox.publish('OrderPlaced', key => 'k1');
CALL outbox.run();
SELECT name, position, lag, delivered FROM outbox.status WHERE name = 'billing';
-- a long filter is cut where it is shown, not where it is stored
SELECT outbox.subscribe('billing', '{Order*}', handler => 'on_json',
                        filter => $$key <> '$$ || repeat('x', 250) || $$'$$, if_exists => 'alter');
SELECT length(filter) FROM outbox.subscription WHERE name = 'billing';

-- kinds: to a handler, to a channel; not to pulling, not to an aggregate
SELECT outbox.subscribe('billing', '{Order*}', channel => 'Bills', payload => 'event', if_exists => 'alter');
SELECT outbox.subscribe('billing', '{Order*}', if_exists => 'alter');
SELECT outbox.aggregate('billing', '{Order*}', 'Total', 'fold', max_events => 2, if_exists => 'alter');
SELECT outbox.subscribe('fresh', concurrency => 2, handler => 'on_event', if_exists => 'alter');
-- other arguments are checked as ever
SELECT outbox.subscribe('fresh', handler => 'on_event', channel => 'c', if_exists => 'alter');
SELECT outbox.subscribe('fresh', handler => 'on_event', ordering => 'strict', concurrency => 2, if_exists => 'alter');
SELECT outbox.subscribe('fresh', handler => 'gone', if_exists => 'alter');

-- aggregates: some of it, and how it is delivered stays as it was altered
SELECT outbox.aggregate('cart', '{Item*}', 'CartUpdated', 'fold', max_events => 3, period => '1 hour', if_exists => 'alter');
SELECT outbox.alter_subscription('cart', max_attempts => 3);
SELECT outbox.aggregate('cart', '{Item*}', 'CartUpdated', 'mig.fold', max_events => 3, period => '60 minutes', if_exists => 'alter');
SELECT outbox.aggregate('cart', '{Item*,Pen*}', 'CartUpdated', 'fold_more', max_events => 3, period => '1 hour',
                        filter => 'key IS NOT NULL', if_exists => 'alter');
SELECT handler_name, types, filter, max_attempts FROM outbox.subscription WHERE name = 'cart';
SELECT outbox.aggregate('cart', '{Item*}', 'CartUpdated', 'fold', max_events => 3, if_exists => 'alter');
SELECT outbox.aggregate('cart', '{Item*}', 'CartClosed', 'fold', max_events => 3, period => '1 hour', if_exists => 'alter');
SELECT outbox.subscribe('cart', '{Item*}', if_exists => 'alter');

-- only members of the owner, who keep its owner; anyone keeps what is there
GRANT EXECUTE ON FUNCTION outbox.subscribe TO regress_outbox_team, regress_outbox_other;
GRANT USAGE, CREATE ON SCHEMA mig TO regress_outbox_team, regress_outbox_other;
SET ROLE regress_outbox_team;
SELECT outbox.subscribe('team', concurrency => 2);
SET ROLE regress_outbox_other;
SELECT outbox.subscribe('team', concurrency => 3, if_exists => 'alter');
SELECT outbox.subscribe('team', concurrency => 3, if_exists => 'keep');
RESET ROLE;
GRANT regress_outbox_team TO regress_outbox_other;
SET ROLE regress_outbox_other;
SELECT outbox.subscribe('team', concurrency => 3, if_exists => 'alter');
RESET ROLE;
SELECT owner, concurrency FROM outbox.subscription WHERE name = 'team';

-- in a handler of the subscription itself
CREATE FUNCTION moves_itself(e outbox.event) RETURNS void LANGUAGE sql AS
    $$ SELECT outbox.subscribe('self', handler => 'mig.moves_itself', concurrency => 9, if_exists => 'alter') $$;
SELECT outbox.subscribe('self', '{Move}', handler => 'moves_itself', max_attempts => 1);
SELECT outbox.publish('Move');
CALL outbox.run();
SELECT error FROM outbox.dead_letter WHERE subscription = 'self';

-- rules of capture
CREATE TABLE orders (id int PRIMARY KEY, status text, "Net Amount" int, note text);
SELECT outbox.capture('orders', type => 'OrderPlaced', operations => '{insert}', if_exists => 'replace');
SELECT outbox.capture('orders', type => 'OrderPlaced', operations => '{insert}');
SELECT outbox.capture('orders', type => 'OrderPlaced', if_exists => 'alter');
SELECT outbox.capture('orders', type => 'OrderPlaced', operations => '{update}', if_exists => 'keep');
SELECT outbox.capture('orders', type => 'OrderPlaced', operations => '{insert}', if_exists => 'replace');
SELECT oid AS trigger FROM pg_trigger WHERE tgrelid = 'orders'::regclass \gset
SELECT outbox.capture('orders', type => 'OrderPlaced', operations => '{insert}', name => 'OrderPlaced',
                      old_values => NULL, if_exists => 'replace');
SELECT oid = :trigger AS same FROM pg_trigger WHERE tgrelid = 'orders'::regclass;
SELECT outbox.capture('orders', type => 'OrderPlaced', condition => 'new.id > 0', columns => '{id,"Net Amount"}', key => '{status}',
                      old_values => 'all', replicated => true, if_exists => 'replace');
SELECT name, operations, condition, key, columns, old_values, replicated, enabled FROM outbox.capture_rule;
SELECT outbox.capture('orders', type => 'OrderPlaced', condition => 'new.id > 0', columns => '{id,"Net Amount"}', key => '{status}',
                      old_values => 'all', replicated => true, if_exists => 'replace');
-- one that does not fire is not what was asked for; nor one without one of its triggers
SELECT outbox.capture('orders', name => 'all', if_exists => 'replace');
ALTER TABLE orders DISABLE TRIGGER outbox_all;
SELECT outbox.capture('orders', name => 'all', if_exists => 'replace');
DROP TRIGGER outbox_all_truncate ON orders;
SELECT outbox.capture('orders', name => 'all', if_exists => 'replace');
SELECT name, enabled FROM outbox.capture_rule;
-- the same words mean something else
CREATE FUNCTION is_wanted(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
CREATE SCHEMA later;
CREATE FUNCTION later.is_wanted(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
SELECT outbox.capture('orders', name => 'wanted', condition => 'is_wanted(new.status)', if_exists => 'replace');
SELECT outbox.capture('orders', name => 'wanted', condition => 'is_wanted(new.status)', if_exists => 'replace');
SET search_path = later, mig;
SELECT outbox.capture('orders', name => 'wanted', condition => 'is_wanted(new.status)', if_exists => 'replace');
SET search_path = mig;
-- a column that was renamed: the rule follows, and so must the migration
SELECT outbox.capture('orders', name => 'some', columns => '{id,note}');
ALTER TABLE orders RENAME note TO remark;
SELECT outbox.capture('orders', name => 'some', columns => '{id,note}', if_exists => 'replace');
SELECT outbox.capture('orders', name => 'some', columns => '{id,remark}', if_exists => 'replace');
-- names that differ behind where names of triggers are cut
SELECT length(outbox.capture('orders', name => repeat('long ', 30) || 'a', if_exists => 'replace')),
       length(outbox.capture('orders', name => repeat('long ', 30) || 'b', operations => '{delete}', if_exists => 'replace')),
       length(outbox.capture('orders', name => repeat('long ', 30) || 'b', operations => '{delete}', if_exists => 'replace'));
-- events are captured as the last one says, once
SELECT outbox.uncapture('orders') > 0 AS removed;
SELECT outbox.capture('orders', name => 'tree', if_exists => 'replace');
CREATE TABLE more_orders () INHERITS (orders);
SELECT outbox.capture('orders', name => 'tree', type => 'Order', if_exists => 'replace');
INSERT INTO more_orders VALUES (1);
INSERT INTO orders VALUES (2);
CALL outbox.run();
SELECT type, data ->> 'id' AS id, headers FROM outbox.read() WHERE source = 'mig.orders';
-- what a table inherits is not its own rule
SELECT outbox.capture('more_orders', name => 'tree', key => '{id}', if_exists => 'keep');
-- only the owner
GRANT EXECUTE ON FUNCTION outbox.capture TO regress_outbox_other;
SET ROLE regress_outbox_other;
SELECT outbox.capture('orders', name => 'tree', if_exists => 'keep');
RESET ROLE;

\set VERBOSITY terse
DROP SCHEMA mig, later CASCADE;
DROP EXTENSION pg_outbox CASCADE;
DROP ROLE regress_outbox_team, regress_outbox_other;
