-- Every error that a user's argument causes has a fitting SQLSTATE, and a detail
-- and a hint unless the message says it all.
CREATE EXTENSION pg_outbox;
CREATE TABLE orders (id int PRIMARY KEY, status text);
CREATE VIEW order_list AS SELECT * FROM orders;
CREATE FUNCTION deliver(event outbox.event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION deliver_two(event outbox.event, n int) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fold(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS 'SELECT state';
SELECT outbox.subscribe('deliver', handler => 'deliver');
SELECT outbox.subscribe('pull');

CREATE FUNCTION explain(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    detail text;
    hint text;
BEGIN
    EXECUTE call;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL,
        hint = PG_EXCEPTION_HINT;
    RETURN state || CASE WHEN detail = '' THEN ' no detail' ELSE '' END
                 || CASE WHEN hint = '' THEN ' no hint' ELSE '' END;
END
$$;

SELECT call, explain(call) FROM unnest(ARRAY[
    $$SELECT outbox.publish(NULL)$$,
    $$SELECT outbox.publish('a*')$$,
    $$SELECT outbox.publish('a', headers => '[]')$$,
    $$SELECT outbox.publish('a', deliver_at => 'infinity')$$,
    $$SELECT outbox.publish_many('{}')$$,
    $$SELECT outbox.publish_many('[1]')$$,
    $$SELECT outbox.publish_many('[{"type": "a", "kee": "1"}]')$$,
    $$SELECT outbox.publish_many('[{"type": "a", "key": 1}]')$$,
    $$SELECT outbox.publish_many('[{"type": "a", "headers": null}]')$$,
    $$SELECT outbox.publish_many('[{"type": "a", "deliver_at": "soon"}]')$$,
    $$SELECT outbox.capture('order_list')$$,
    $$SELECT outbox.capture('orders', operations => '{merge}')$$,
    $$SELECT outbox.capture('orders', condition => 'new.status =')$$,
    $$SELECT outbox.capture('orders', condition => 'new.amount > 1')$$,
    $$SELECT outbox.capture('orders', operations => '{insert}', condition => 'old.id = 1')$$,
    $$SELECT outbox.capture('orders', key => '{kee}')$$,
    $$SELECT outbox.uncapture('orders', 'none')$$,
    $$SELECT outbox.subscribe('deliver')$$,
    $$SELECT outbox.subscribe('a', types => '{}')$$,
    $$SELECT outbox.subscribe('a', types => '{NULL}')$$,
    $$SELECT outbox.subscribe('a', types => '{{a},{b}}')$$,
    $$SELECT outbox.subscribe('a', handler => '')$$,
    $$SELECT outbox.subscribe('a', handler => 'nobody')$$,
    $$SELECT outbox.subscribe('a', handler => 'deliver(text)')$$,
    $$SELECT outbox.subscribe('a', handler => 'deliver(outbox.event')$$,
    $$SELECT outbox.subscribe('a', handler => 'deliver_two')$$,
    $$SELECT outbox.subscribe('a', handler => 'deliver', channel => 'a')$$,
    $$SELECT outbox.subscribe('a', payload => 'all')$$,
    $$SELECT outbox.subscribe('a', channel => '')$$,
    $$SELECT outbox.subscribe('a', filter => '')$$,
    $$SELECT outbox.subscribe('a', filter => 'data >')$$,
    $$SELECT outbox.subscribe('a', filter => 'amount > 1')$$,
    $$SELECT outbox.subscribe('a', filter => '1')$$,
    $$SELECT outbox.subscribe('a', filter => 'id = ''x''')$$,
    $$SELECT outbox.subscribe('a', filter => '(SELECT true)')$$,
    $$SELECT outbox.subscribe('a', filter => 'count(*) > 1')$$,
    $$SELECT outbox.subscribe('a', filter => 'xmin IS NULL')$$,
    $$SELECT outbox.subscribe('a', start => 'soon')$$,
    $$SELECT outbox.subscribe('a', start => '0')$$,
    $$SELECT outbox.subscribe('a', ordering => 'strict', concurrency => 2)$$,
    $$SELECT outbox.subscribe('a', max_attempts => 0)$$,
    $$SELECT outbox.subscribe('a', backoff => '-1 second')$$,
    $$SELECT outbox.alter_subscription('deliver', owner => 'nobody')$$,
    $$SELECT outbox.unsubscribe('nobody')$$,
    $$SELECT outbox.pause('nobody')$$,
    $$SELECT outbox.seek('pull')$$,
    $$SELECT outbox.seek('pull', 0)$$,
    $$SELECT * FROM outbox.read(-1)$$,
    $$SELECT * FROM outbox.read(max_events => -1)$$,
    $$SELECT * FROM outbox.receive('deliver')$$,
    $$SELECT * FROM outbox.receive('pull', lease => '0')$$,
    $$SELECT outbox.ack('pull', 1)$$,
    $$SELECT outbox.redrive('pull', 1)$$,
    $$SELECT outbox.discard('pull', 1)$$,
    $$SELECT outbox.aggregate('a', '{a}', 'b', 'fold')$$,
    $$SELECT outbox.aggregate('a', '{a}', 'b', 'deliver', 1)$$,
    $$SELECT outbox.aggregate('a', '{a}', 'b', '', 1)$$,
    $$SELECT outbox.aggregate('a', '{a}', 'b', 'fold', quiet => '0')$$,
    $$SELECT outbox.aggregate('a', '{a}', 'b', 'fold', until => 'n > 1')$$,
    $$SELECT outbox.wait('nobody')$$,
    $$SELECT outbox.once('', 1)$$,
    $$SELECT outbox.register_type('a', 'data')$$,
    $$SELECT outbox.unregister_type('a')$$,
    $$SET outbox.headers = '[]'$$,
    $$SET outbox.headers = '{'$$,
    $$SET outbox.traceparent = 'a'$$,
    $$CALL outbox.run()$$
]) call;

-- an error that the text has not caused stays as it is
CREATE DOMAIN large AS int CHECK (value > 10);
SELECT outbox.subscribe('a', filter => '11::large > 1');

DROP DOMAIN large;
DROP VIEW order_list;
DROP TABLE orders;
DROP FUNCTION explain;
SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
