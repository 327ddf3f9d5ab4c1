-- The filter of a subscription: what can be said, what is refused, and that
-- it decides before anything else does.
CREATE EXTENSION pg_outbox;

CREATE TABLE effect (n serial, subscription text, position bigint, key text, data jsonb);
CREATE FUNCTION handle(e outbox.event) RETURNS void LANGUAGE plpgsql AS
$$
BEGIN
    INSERT INTO effect (subscription, position, key, data)
    VALUES (outbox.current_subscription(), outbox.current_position(), e.key, e.data);
    IF e.data ? 'fail' THEN
        RAISE 'handler fails';
    END IF;
END
$$;

-- one boolean expression over the event's columns, and nothing else
SELECT outbox.subscribe('f', handler => 'handle', filter => '');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'amount > 100');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'data');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'true; SELECT 1');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'true FROM outbox.subscription');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'true AS yes');
SELECT outbox.subscribe('f', handler => 'handle', filter => '(type = ');
SELECT outbox.subscribe('f', handler => 'handle', filter => '*');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'count(*) > 1');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'row_number() OVER () = 1');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'generate_series(1, 3) = 2');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'EXISTS (SELECT FROM outbox.event)');
SELECT outbox.subscribe('f', handler => 'handle', filter => 'ctid IS NOT NULL');
SELECT outbox.subscribe('f', handler => 'handle', filter => '$1');
\set VERBOSITY terse
SELECT outbox.subscribe('f', handler => 'handle', filter => 'nowhere(data)');
\set VERBOSITY default

-- what does not pass is skipped: not delivered, not counted, and behind the position
SELECT outbox.subscribe('large', handler => 'handle', max_attempts => 2, backoff => '0',
                        filter => $$ (data->>'amount')::numeric > 100 $$);
SELECT outbox.subscribe('row', handler => 'handle', filter => 'event.key = $q$a$q$ AND event IS NOT DISTINCT FROM event');
SELECT outbox.publish('Order', jsonb_build_object('amount', amount), key => key)
FROM (VALUES (50, 'a'), (101, 'b'), (NULL, 'c'), (1000, 'a')) v(amount, key);
CALL outbox.run();
SELECT subscription, position, key, data FROM effect ORDER BY n;
SELECT name, state, position, delivered, failed, retrying, parked, dead FROM outbox.status ORDER BY name;

-- one that raises is a failing event, with its text in the error's context
TRUNCATE effect;
SELECT outbox.unsubscribe('row');
SELECT outbox.publish('Order', data, key => 'k')
FROM unnest('{"{\"amount\": 200}", "{\"amount\": \"much\"}", "{\"amount\": 300}"}'::jsonb[]) data;
CALL outbox.run();
SELECT subscription, position, key, data FROM effect ORDER BY n;
SELECT position, attempts, error FROM outbox.dead_letter;
SELECT error_context FROM outbox.delivery;

-- also in a batch for one call, where only that event fails
CREATE FUNCTION handle_all(events outbox.event[]) RETURNS void LANGUAGE sql AS
$$
    INSERT INTO effect (subscription, position, data)
    VALUES (outbox.current_subscription(), outbox.current_position(),
            (SELECT jsonb_agg(e.data->'amount') FROM unnest(events) e))
$$;
TRUNCATE effect;
SELECT outbox.unsubscribe('large');
SELECT outbox.subscribe('batch', handler => 'handle_all', max_attempts => 1, start => '2',
                        filter => $$ (data->>'amount')::numeric > 100 $$);
CALL outbox.run();
SELECT subscription, position, data FROM effect ORDER BY n;
SELECT subscription, position, error FROM outbox.dead_letter;
SELECT outbox.unsubscribe('batch');

-- a constant expression that raises is no different
SELECT outbox.subscribe('constant', handler => 'handle', max_attempts => 1, filter => '1 / 0 = 1');
SELECT outbox.publish('Order');
CALL outbox.run();
SELECT subscription, error FROM outbox.dead_letter;
SELECT name, state, failed FROM outbox.status;
SELECT outbox.unsubscribe('constant');

-- it comes before waiting: behind a failing event, only what passes is parked,
-- and where it raises the event waits for its turn
TRUNCATE effect;
SELECT outbox.subscribe('park', handler => 'handle', max_attempts => 2, backoff => '1 hour',
                        filter => $$ (data->>'amount')::numeric > 100 $$);
SELECT outbox.publish('Order', data, key => 'k')
FROM unnest(ARRAY['{"amount": 200, "fail": true}', '{"amount": 1}', '{"amount": "much"}',
                  '{"amount": 300}']::jsonb[]) data;
SELECT outbox.publish('Order', '{"amount": 400}', key => 'other');
CALL outbox.run();
SELECT key, data FROM effect ORDER BY n;
SELECT d.position - outbox.head() AS position, d.state, d.attempts, d.error
FROM outbox.delivery d ORDER BY d.position;
SELECT outbox.unsubscribe('park');

-- names are looked up in the search_path of subscribe()
CREATE SCHEMA shop;
CREATE FUNCTION shop.is_large(data jsonb) RETURNS boolean LANGUAGE sql
    AS $$ SELECT (data->>'amount')::numeric > 100 $$;
CREATE FUNCTION public.is_large(data jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT false';
TRUNCATE effect;
SET search_path = shop, public;
SELECT outbox.subscribe('path', handler => 'handle', filter => 'is_large(data)');
RESET search_path;
SELECT outbox.publish('Order', '{"amount": 101}');
CALL outbox.run();
SELECT subscription, data FROM effect;

-- it goes the way of a handler: too slow, in its event's context, and without
-- leaving a setting behind
TRUNCATE effect;
SELECT outbox.unsubscribe('path');
CREATE FUNCTION slow(e outbox.event) RETURNS boolean LANGUAGE plpgsql AS
$$
BEGIN
    IF e.data ? 'nap' THEN
        PERFORM pg_sleep(60);
    END IF;
    PERFORM set_config('work_mem', '1234kB', false);
    RETURN outbox.current_position() = outbox.head() AND outbox.current_subscription() = 'slow';
END
$$;
SELECT outbox.subscribe('slow', handler => 'handle', max_attempts => 1, timeout => '100 ms',
                        filter => 'slow(event)');
SELECT outbox.publish('Order', data) FROM unnest(ARRAY['{"nap": true}', '{}']::jsonb[]) data;
CALL outbox.run();
SELECT subscription, data FROM effect;
SELECT subscription, error FROM outbox.dead_letter;
SHOW work_mem;

-- a handler that receives what is filtered stays the cause of what it emits
TRUNCATE effect;
SELECT outbox.unsubscribe('slow');
CREATE FUNCTION relay(e outbox.event) RETURNS void LANGUAGE sql AS
$$
    SELECT outbox.publish('Relayed', data) FROM outbox.receive('inbox');
$$;
SELECT outbox.subscribe('inbox', '{Order}', filter => $$ (data->>'amount')::numeric > 100 $$);
SELECT outbox.subscribe('relay', '{Start}', handler => 'relay');
SELECT outbox.publish('Order', data)
FROM unnest(ARRAY['{"amount": 1}', '{"amount": "much"}', '{"amount": 300}']::jsonb[]) data;
SELECT outbox.publish('Start');
CALL outbox.run();
SELECT e.type, e.data, c.type AS cause
FROM outbox.event e LEFT JOIN outbox.event c ON c.id = e.causation_id WHERE e.type = 'Relayed';
SELECT name, retrying, last_error FROM outbox.status WHERE name = 'inbox';

-- the functions it names must be there, and the owner's to execute
CREATE ROLE regress_filter_owner;
GRANT EXECUTE ON FUNCTION outbox.subscribe TO regress_filter_owner;
REVOKE EXECUTE ON FUNCTION shop.is_large(jsonb), slow(outbox.event) FROM PUBLIC;
GRANT USAGE ON SCHEMA shop TO regress_filter_owner;
SET ROLE regress_filter_owner;
SELECT outbox.subscribe('mine', handler => 'handle', filter => 'shop.is_large(data)');
RESET ROLE;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA shop CASCADE;
DROP FUNCTION public.is_large;
DROP TABLE effect;
DROP ROLE regress_filter_owner;
