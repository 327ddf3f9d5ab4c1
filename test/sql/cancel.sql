-- Cancel means cancel: a statement_timeout, or somebody's pg_cancel_backend(),
-- ends the statement, and is no failure of an event, a filter or a contract.
-- Only a subscription's own time limit is; and limits nest.
SET client_min_messages = warning;
CREATE EXTENSION pg_outbox;
CREATE SCHEMA cancel;
SET search_path = cancel, public;
CREATE TABLE cancel.called (who text);
CREATE FUNCTION cancel.endless() RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(3600); RETURN true; END $$;
CREATE FUNCTION cancel.endless(e outbox.event) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(3600); END $$;
CREATE FUNCTION cancel.cancelled(e outbox.event) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(3600); END $$;

-- run(): no attempt
SELECT outbox.subscribe('run', types => '{Run}', handler => 'endless', max_attempts => 1, timeout => '0');
SELECT outbox.publish('Run') > 0 AS published;
SET statement_timeout = '300ms';
\set VERBOSITY terse
CALL outbox.run();
RESET statement_timeout;
SELECT outbox.alter_subscription('run', handler => 'cancelled', timeout => '1 hour');
CALL outbox.run();
SELECT name, state, delivered, failed, dead FROM outbox.status;
SELECT count(*) FROM outbox.delivery;
SELECT outbox.unsubscribe('run');

-- an aggregate's windows
CREATE FUNCTION cancel.reduce(state jsonb, e outbox.event) RETURNS jsonb LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_cancel_backend(pg_backend_pid()); PERFORM pg_sleep(3600); RETURN '1'; END $$;
SELECT outbox.aggregate('fold', '{Fold}', 'Folded', 'reduce', max_events => 1);
SELECT outbox.publish('Fold', key => 'k') > 0 AS published;
CALL outbox.run();
SELECT name, state, delivered, failed, dead FROM outbox.status;
SELECT outbox.unsubscribe('fold');

-- receive(): the filter's event is not nacked
SELECT outbox.subscribe('pulled', types => '{Pull}', filter => 'endless()', timeout => '1 hour', max_attempts => 1);
SELECT outbox.publish('Pull') > 0 AS published;
CALL outbox.run();
SET statement_timeout = '300ms';
SELECT type FROM outbox.receive('pulled');
RESET statement_timeout;
SELECT count(*) FROM outbox.delivery;
SELECT outbox.unsubscribe('pulled');

-- register_type(): a contract that is being compared with what there is
SELECT outbox.publish('Typed') > 0 AS published;
SET statement_timeout = '300ms';
SELECT outbox.register_type('Typed', 'cancel.endless()');
RESET statement_timeout;
SELECT count(*) FROM outbox.event_type;

-- trace() and why_not_delivered(): a filter of PostgreSQL's own functions that
-- takes long, when it is asked and when it is planned
CREATE FUNCTION cancel.quick(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT outbox.subscribe('asked', types => '{Asked}', handler => 'quick');
SELECT outbox.publish('Asked', '32177') AS asked \gset
CALL outbox.run();
SELECT state FROM outbox.trace(:'asked');
SELECT outbox.alter_subscription('asked', filter =>
    (SELECT string_agg(format('factorial(data::bigint - %s)', n), ' + ' ORDER BY n) || ' > 0' FROM generate_series(1, 100) n));
SET statement_timeout = '300ms';
SELECT state FROM outbox.trace(:'asked');
SELECT outbox.why_not_delivered(:asked);
SELECT outbox.trace_text(:'asked');
RESET statement_timeout;
SELECT outbox.alter_subscription('asked', filter =>
    (SELECT string_agg(format('factorial(32000 - %s)', n), ' + ' ORDER BY n) || ' > 0' FROM generate_series(1, 100) n));
SET statement_timeout = '300ms';
SELECT state FROM outbox.trace(:'asked');
SELECT outbox.why_not_delivered(:asked);
RESET statement_timeout;
SELECT outbox.unsubscribe('asked');

-- a handler that calls receive() keeps its own limit
SELECT outbox.subscribe('inner', types => '{Inner}', filter => 'true', timeout => '1 hour');
CREATE FUNCTION cancel.receives(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cancel.called SELECT type FROM outbox.receive('inner');
    PERFORM pg_sleep(3600);
END $$;
SELECT outbox.subscribe('outer', types => '{Outer}', handler => 'receives', max_attempts => 1, timeout => '200 ms');
SELECT outbox.publish('Inner') > 0 AS published;
SELECT outbox.publish('Outer') > 0 AS published;
SET statement_timeout = '30s';
CALL outbox.run();
SELECT subscription, error FROM outbox.dead_letter;

-- while the inner filter runs, too: that is no failure of the inner event
SELECT outbox.discard('outer');
SELECT outbox.alter_subscription('inner', filter => 'cancel.endless()');
SELECT outbox.publish('Outer') > 0 AS published;
CALL outbox.run();
SELECT subscription, error FROM outbox.dead_letter;
SELECT name, delivered, failed, dead FROM outbox.status WHERE name = 'inner';

-- the inner limit is the inner event's failure, and the handler goes on
SELECT outbox.discard('outer');
SELECT outbox.alter_subscription('inner', timeout => '50 ms', max_attempts => 1);
CREATE OR REPLACE FUNCTION cancel.receives(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO cancel.called SELECT count(*) FROM outbox.receive('inner');
    IF e.key = 'sleeps' THEN PERFORM pg_sleep(3600); END IF;
END $$;
SELECT outbox.alter_subscription('outer', timeout => '3 s');
SELECT outbox.publish('Outer', key => 'returns') > 0 AS published;
CALL outbox.run();
SELECT * FROM cancel.called;
SELECT subscription, error FROM outbox.dead_letter;
-- and still has its limit then
SELECT outbox.discard('inner');
SELECT outbox.alter_subscription('outer', timeout => '300 ms');
SELECT outbox.publish('Inner') > 0 AS published;
SELECT outbox.publish('Outer', key => 'sleeps') > 0 AS published;
CALL outbox.run();
SELECT subscription, error FROM outbox.dead_letter;
RESET statement_timeout;

SET client_min_messages = warning;
DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA cancel CASCADE;
