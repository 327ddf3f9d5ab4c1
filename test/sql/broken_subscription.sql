-- A subscription that cannot run says so in outbox.status, keeps its events,
-- and goes on by itself once it can.
CREATE EXTENSION pg_outbox;
SET client_min_messages = warning;
CREATE ROLE regress_owner LOGIN;
GRANT EXECUTE ON FUNCTION outbox.subscribe, outbox.seek TO regress_owner;
GRANT EXECUTE ON PROCEDURE outbox.run TO regress_owner;
CREATE SCHEMA app;
CREATE TABLE effect (n serial, key text, handler text);
GRANT ALL ON effect, effect_n_seq TO regress_owner;
GRANT USAGE ON SCHEMA app TO regress_owner;

CREATE FUNCTION app.handle(e jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.effect (key, handler) VALUES (e->>'key', 'first') $$;
CREATE FUNCTION app.is_wanted(key text) RETURNS boolean LANGUAGE sql AS $$ SELECT key <> 'no' $$;
CREATE VIEW state AS
SELECT name, state, lag, delivered, failed, last_error FROM outbox.status;

SET ROLE regress_owner;
SET search_path = app, public;
SELECT outbox.subscribe('s', handler => 'handle', filter => 'is_wanted(key)');
RESET search_path;
RESET ROLE;

-- the handler is dropped
DROP FUNCTION app.handle(jsonb);
SELECT outbox.publish('t', key => 'a');
SET ROLE regress_owner;
CALL outbox.run();
CALL outbox.run();
RESET ROLE;
TABLE state;
SELECT count(*) FROM outbox.failure;
SELECT outbox.wait('s', '1 ms');

-- comes back with another signature, and as what cannot be a handler
CREATE FUNCTION app.handle(e outbox.event) RETURNS void LANGUAGE sql AS $$ $$;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;
DROP FUNCTION app.handle(outbox.event);
CREATE FUNCTION app.handle(e jsonb) RETURNS SETOF integer LANGUAGE sql AS $$ SELECT 1 $$;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;
DROP FUNCTION app.handle(jsonb);
CREATE FUNCTION app.handle(e jsonb) RETURNS record LANGUAGE sql AS $$ SELECT (1, 2) $$;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;

-- as it was: all goes on
DROP FUNCTION app.handle(jsonb);
CREATE FUNCTION app.handle(e jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.effect (key, handler) VALUES (e->>'key', 'second') $$;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;
SELECT key, handler FROM effect ORDER BY n;

-- the owner may not execute it any more, nor use its schema
REVOKE EXECUTE ON FUNCTION app.handle(jsonb) FROM PUBLIC;
TABLE state;
SELECT outbox.publish('t', key => 'b');
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;
GRANT EXECUTE ON FUNCTION app.handle(jsonb) TO regress_owner;
REVOKE USAGE ON SCHEMA app FROM regress_owner;
TABLE state;
GRANT USAGE ON SCHEMA app TO regress_owner;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;

-- what the filter needs is gone, or forbidden
ALTER FUNCTION app.is_wanted(text) RENAME TO was_wanted;
SELECT outbox.publish('t', key => k) FROM unnest('{no,c}'::text[]) k;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;
ALTER FUNCTION app.was_wanted(text) RENAME TO is_wanted;
REVOKE EXECUTE ON FUNCTION app.is_wanted(text) FROM PUBLIC;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;
SELECT outbox.alter_subscription('s', filter => $$ key <> 'no' $$);
TABLE state;
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
TABLE state;

-- a seek lets it try again, too
DROP FUNCTION app.handle(jsonb);
SELECT outbox.publish('t', key => 'd');
SET ROLE regress_owner;
CALL outbox.run();
RESET ROLE;
CREATE FUNCTION app.handle(e jsonb) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.effect (key, handler) VALUES (e->>'key', 'third') $$;
SELECT outbox.seek('s', outbox.head() + 1);
TABLE state;

-- the owner is dropped, which the subscription would refuse; a superuser finds it a new one
REVOKE ALL ON effect, effect_n_seq FROM regress_owner;
REVOKE ALL ON SCHEMA app FROM regress_owner;
DROP ROLE regress_owner;
ALTER EVENT TRIGGER outbox_capture_follow_drop DISABLE;
DROP OWNED BY regress_owner;
ALTER EVENT TRIGGER outbox_capture_follow_drop ENABLE ALWAYS;
DROP ROLE regress_owner;
SELECT outbox.publish('t', key => 'e');
CALL outbox.run();
SELECT name, state, lag, last_error FROM state;
SELECT owner ~ '^unknown' AS unknown FROM outbox.status;
SELECT outbox.alter_subscription('s', batch_size => 3);
SELECT outbox.alter_subscription('s', owner => current_user::text, batch_size => 3);
CALL outbox.run();
SELECT name, state, lag, last_error FROM state;
SELECT key, handler FROM effect ORDER BY n;

DROP EXTENSION pg_outbox CASCADE;
DROP SCHEMA app CASCADE;
DROP TABLE effect;
