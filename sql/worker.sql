-- The processes that serve this database.

CREATE FUNCTION outbox.worker_slots(
    OUT pid integer,
    OUT role text,
    OUT owner regrole,
    OUT subscription integer,
    OUT lane integer,
    OUT state text,
    OUT since timestamptz)
RETURNS SETOF record
LANGUAGE C VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'obx_sql_worker_slots';
COMMENT ON FUNCTION outbox.worker_slots() IS 'the rows of outbox.worker, with the number of the subscription';

-- It shows no more than its arguments and pg_roles, and PUBLIC can call it, so a
-- reader of outbox.status needs only SELECT on the view.
CREATE FUNCTION outbox.worker_obstacle(subscription integer, owner regrole, lanes integer) RETURNS text
LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'obx_sql_worker_obstacle';
COMMENT ON FUNCTION outbox.worker_obstacle(integer, regrole, integer) IS
    'the column worker of outbox.status: why no worker serves a subscription';

CREATE VIEW outbox.worker AS
    SELECT w.pid, w.role, w.owner, s.name AS subscription, w.lane, w.state, w.since
    FROM outbox.worker_slots() w
    LEFT JOIN outbox.subscription s ON s.id OPERATOR(pg_catalog.=) w.subscription;
COMMENT ON VIEW outbox.worker IS
    'processes that serve this database; without a pid, those that could not be started';
COMMENT ON COLUMN outbox.worker.role IS 'launcher (one per server), sequencer or dispatcher';
COMMENT ON COLUMN outbox.worker.owner IS 'the role that a dispatcher is connected as';
COMMENT ON COLUMN outbox.worker.state IS
    'starting, idle, busy or leaving; refused: the owner cannot connect; starved: no free worker process';
