-- A subscription belongs to its owner as every object does: DROP ROLE says so,
-- REASSIGN OWNED moves it, DROP OWNED drops it.
CREATE EXTENSION pg_outbox;
CREATE ROLE regress_outbox_old LOGIN;
CREATE ROLE regress_outbox_new LOGIN;
GRANT EXECUTE ON FUNCTION outbox.subscribe, outbox.unsubscribe, outbox.alter_subscription, outbox.register_type TO regress_outbox_old, regress_outbox_new;
GRANT CREATE ON SCHEMA public TO regress_outbox_old, regress_outbox_new;
CREATE VIEW subscriptions AS SELECT name, owner, state FROM outbox.status ORDER BY name;

CREATE SCHEMA regress_outbox_old AUTHORIZATION regress_outbox_old;
ALTER ROLE regress_outbox_new SET search_path = public, regress_outbox_new;

SET ROLE regress_outbox_old;
SET search_path = regress_outbox_old, public;
CREATE FUNCTION public.handle(event outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT outbox.subscribe('s', handler => 'handle');
SELECT outbox.subscribe('quote"d; with a long name ' || repeat('é', 40), types => '{a}');
SELECT outbox.subscribe('quote"d; with a long name ' || repeat('é', 41), types => '{a}');
SELECT outbox.register_type('Checked', $$data->>'n' IS NOT NULL$$);
SELECT outbox.register_type('Long' || repeat('g', 60));
-- no name is chosen so that another subscription goes with it
RESET ROLE;
SELECT outbox.subscribe('nightly_invoices_of_the_accounting_department_eu_west_prod_0', types => '{a}');
SET ROLE regress_outbox_old;
SELECT outbox.subscribe('nightly_invoices_of_the_accounting_dg9R4qJZt5nlh!AB_wzL!ZMt3', types => '{a}');
RESET ROLE;
ALTER TYPE outbox."subscription s" OWNER TO regress_outbox_old;
SELECT owner = current_user AS mine, count(*) FROM subscriptions WHERE name LIKE 'nightly%' GROUP BY mine ORDER BY mine;
SELECT outbox.unsubscribe(name) FROM subscriptions WHERE name LIKE 'nightly%';
SET ROLE regress_outbox_old;
-- nobody can use what stands for it
CREATE TABLE t (c outbox."subscription s");
RESET ROLE;
RESET search_path;

-- refused
REVOKE ALL ON SCHEMA public FROM regress_outbox_old;
REVOKE ALL ON FUNCTION outbox.subscribe, outbox.unsubscribe, outbox.alter_subscription, outbox.register_type FROM regress_outbox_old;
DROP FUNCTION handle;
DROP SCHEMA regress_outbox_old;
DROP ROLE regress_outbox_old;

-- moved, and with it the search_path: the former owner's is the former owner's to fill
GRANT regress_outbox_old TO regress_outbox_new;
SET ROLE regress_outbox_new;
REASSIGN OWNED BY regress_outbox_old TO regress_outbox_new;
RESET ROLE;
SELECT left(name, 12) AS name, owner, state FROM subscriptions;
SELECT DISTINCT search_path FROM outbox.subscription;
SELECT left(type, 7) AS type, registered_by, search_path FROM outbox.registered_type ORDER BY 1;
DROP ROLE regress_outbox_old;

-- moved one by one
ALTER TYPE outbox."subscription s" OWNER TO CURRENT_USER;
SELECT owner = current_user AS mine FROM subscriptions WHERE name = 's';
CREATE FUNCTION handle(event outbox.event) RETURNS void LANGUAGE sql AS $$ SELECT $$;
SELECT outbox.alter_subscription('s', owner => 'regress_outbox_new');

-- dropped
SET ROLE regress_outbox_new;
SELECT outbox.unsubscribe(name) FROM (SELECT 'quote"d; with a long name ' || repeat('é', 40) AS name) n;
RESET ROLE;
SELECT count(*) FROM subscriptions;
DROP OWNED BY regress_outbox_new;
SELECT * FROM subscriptions;
SELECT * FROM outbox.event_type;
DROP ROLE regress_outbox_new;
SELECT typname FROM pg_type WHERE typnamespace = 'outbox'::regnamespace AND NOT typisdefined;

-- goes with the extension
SELECT outbox.subscribe('left', types => '{a}');
SELECT outbox.register_type('Left');
SELECT outbox.register_type('Gone');
SELECT outbox.unregister_type('Gone');
SELECT typname FROM pg_type WHERE typnamespace = 'outbox'::regnamespace AND NOT typisdefined ORDER BY 1;
DROP VIEW subscriptions;
DROP FUNCTION handle;
DROP EXTENSION pg_outbox;
SELECT count(*) FROM pg_type WHERE typname IN ('subscription left', 'event type Left');
