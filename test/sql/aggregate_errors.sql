-- outbox.aggregate() says what is wrong with its arguments.
CREATE EXTENSION pg_outbox;
CREATE FUNCTION good(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION strict_one(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql STRICT AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION json_one(state jsonb, event outbox.event) RETURNS json LANGUAGE sql AS $$ SELECT '{}'::json $$;
CREATE FUNCTION set_one(state jsonb, event outbox.event) RETURNS SETOF jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION handler(event outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;
CREATE FUNCTION pg_temp.temporary(state jsonb, event outbox.event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{}'::jsonb $$;

-- NULL where none is meant
SELECT outbox.aggregate(NULL, '{A}', 'B', 'good', 1);
SELECT outbox.aggregate('a', NULL, 'B', 'good', 1);
SELECT outbox.aggregate('a', '{A}', NULL, 'good', 1);
SELECT outbox.aggregate('a', '{A}', 'B', NULL, 1);
-- names and types
SELECT outbox.aggregate('', '{A}', 'B', 'good', 1);
SELECT outbox.aggregate(repeat('x', 191), '{A}', 'B', 'good', 1);
SELECT outbox.aggregate('a', '{}', 'B', 'good', 1);
SELECT outbox.aggregate('a', '{A,NULL}', 'B', 'good', 1);
SELECT outbox.aggregate('a', '{A}', '', 'good', 1);
SELECT outbox.aggregate('a', '{A}', 'B*', 'good', 1);
SELECT outbox.aggregate('a', '{A}', repeat('B', 201), 'good', 1);
SELECT outbox.aggregate('a', '{C*,CartUpdated}', 'CartUpdated', 'good', 1);
-- what every process compiles is not endless
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => repeat(' ', 100000) || 'true');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 1, filter => repeat(' ', 100000) || 'true');
SELECT outbox.subscribe('a', handler => 'handler', filter => repeat(' ', 100000) || 'true');
SELECT outbox.register_type('A', repeat(' ', 100000) || 'true');
CREATE TABLE captured (id integer PRIMARY KEY);
SELECT outbox.capture('captured', condition => repeat(' ', 100000) || 'true');
DROP TABLE captured;
-- when it is complete
SELECT outbox.aggregate('a', '{A}', 'B', 'good');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 0);
SELECT outbox.aggregate('a', '{A}', 'B', 'good', -1);
SELECT outbox.aggregate('a', '{A}', 'B', 'good', quiet => '0');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', quiet => '-1 s');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', period => '0');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', period => '1001 years');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => '');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'state');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'state ? ''x'' FROM pg_class');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'data ? ''x''');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'state.x');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => '$1 ? ''x''');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'state = ');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'state ? (SELECT ''x'')');
\set VERBOSITY terse
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'nothing(state)');
\set VERBOSITY default
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'count(state) > 1');
-- filter and start
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 1, filter => 'state ? ''x''');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 1, start => 'soon');
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 1, start => '7');
-- reducers
SELECT outbox.aggregate('a', '{A}', 'B', 'nothing', 1);
SELECT outbox.aggregate('a', '{A}', 'B', 'handler', 1);
SELECT outbox.aggregate('a', '{A}', 'B', 'handler(outbox.event)', 1);
SELECT outbox.aggregate('a', '{A}', 'B', 'strict_one', 1);
SELECT outbox.aggregate('a', '{A}', 'B', 'json_one', 1);
SELECT outbox.aggregate('a', '{A}', 'B', 'set_one', 1);
SELECT outbox.aggregate('a', '{A}', 'B', 'pg_temp.temporary', 1);
-- rights are the owner's
CREATE ROLE regress_aggregate LOGIN;
GRANT EXECUTE ON FUNCTION outbox.aggregate, outbox.subscribe, outbox.alter_subscription, outbox.unsubscribe TO regress_aggregate;
CREATE FUNCTION secret(jsonb) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
REVOKE EXECUTE ON FUNCTION good, secret FROM PUBLIC;
SET ROLE regress_aggregate;
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 1);
RESET ROLE;
GRANT EXECUTE ON FUNCTION good TO regress_aggregate;
SET ROLE regress_aggregate;
SELECT outbox.aggregate('a', '{A}', 'B', 'good', until => 'secret(state)');
SELECT outbox.aggregate('a', '{A}', 'B', 'good(jsonb, outbox.event)', until => 'state ? ''x''');
RESET ROLE;

-- what can be altered, and what makes no sense
SELECT outbox.aggregate('a', '{A}', 'B', 'good', 1);
SELECT outbox.subscribe('a', handler => 'handler');
SELECT outbox.alter_subscription('a', types => '{B}');
SELECT outbox.alter_subscription('a', types => '{A,C}');
SELECT outbox.alter_subscription('a', handler => 'handler');
SELECT outbox.alter_subscription('a', channel => 'c');
SELECT outbox.alter_subscription('a', ordering => 'none');
SELECT outbox.alter_subscription('a', ordering => 'strict');
SELECT outbox.alter_subscription('a', ordering => 'key', concurrency => 1);
SELECT outbox.alter_subscription('a', concurrency => 2);
SELECT outbox.alter_subscription('a', payload => 'event');
SELECT outbox.alter_subscription('a', batch_size => 10, max_attempts => 3, backoff => '1 s', max_backoff => '2 s', timeout => '3 s', on_exhausted => 'block', filter => 'key IS NOT NULL');
SELECT * FROM outbox.receive('a');
-- a new owner needs the rights
REVOKE EXECUTE ON FUNCTION good FROM regress_aggregate;
SELECT outbox.alter_subscription('a', owner => 'regress_aggregate');
GRANT EXECUTE ON FUNCTION good TO regress_aggregate;
SELECT outbox.alter_subscription('a', owner => 'regress_aggregate');
SELECT name, owner, kind, state FROM outbox.status;
SELECT kind, types, handler_name, handler_argument, emit_type, max_events, quiet, period, until FROM outbox.subscription;
-- nobody's business but the owner's
GRANT EXECUTE ON FUNCTION outbox.aggregate TO PUBLIC;
CREATE ROLE regress_stranger;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA outbox TO regress_stranger;
SET ROLE regress_stranger;
SELECT outbox.unsubscribe('a');
SELECT * FROM outbox.aggregation;
RESET ROLE;

DROP EXTENSION pg_outbox CASCADE;
DROP OWNED BY regress_aggregate, regress_stranger;
DROP ROLE regress_aggregate, regress_stranger;
DROP FUNCTION secret;
