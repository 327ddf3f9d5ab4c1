-- Watching.  These views read tables, and call PostgreSQL's own functions and one
-- that PUBLIC can call, so a reader needs only SELECT on the view.

CREATE VIEW outbox.status AS
WITH head AS (
    SELECT coalesce(newest."position", 0) AS "position",
           coalesce(oldest.first_position, newest."position" + 1, 1) AS oldest
    FROM (VALUES (true)) AS one
    LEFT JOIN LATERAL (
        SELECT g.first_position + g.events - 1 AS "position"
        FROM outbox.segment g
        ORDER BY g.first_position DESC
        LIMIT 1) AS newest ON true
    LEFT JOIN LATERAL (
        SELECT g.first_position
        FROM outbox.segment g
        WHERE g.events > 0
        ORDER BY g.first_position
        LIMIT 1) AS oldest ON true
),
lane AS (
    SELECT s.id, p."position", p.delivered, p.failed, p.is_out, p.lease_until,
           CASE WHEN p.is_out THEN p.holder END AS holder,
           CASE WHEN p.is_out AND EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = p.holder_pid)
               THEN p.holder_pid END AS holder_pid
    FROM outbox.subscription s
    -- an array, because the planner expects 10 rows of it instead of 1,000; with
    -- 1,000 it compiled the whole view, which took a second
    CROSS JOIN LATERAL unnest(ARRAY(SELECT generate_series(0, s.concurrency - 1))) AS l(lane)
    CROSS JOIN LATERAL (
        SELECT p."position", p.delivered, p.failed, p.holder, p.holder_pid, p.lease_until,
               coalesce(p.lease_until > pg_catalog.clock_timestamp()
                        AND coalesce(p.handed, 0) + coalesce(p.retries_count, 0) > 0, false) AS is_out
        FROM outbox.progress p
        WHERE p.subscription = s.id AND p.lane = l.lane
        ORDER BY p.version DESC
        LIMIT 1) AS p
),
progress AS (
    SELECT l.id, min(l."position") AS "position", sum(l.delivered)::bigint AS delivered,
           sum(l.failed)::bigint AS failed,
           (count(*) FILTER (WHERE l.is_out))::integer AS lanes_held,
           (array_agg(l.holder ORDER BY l.lease_until) FILTER (WHERE l.is_out))[1] AS holder,
           (array_agg(l.holder_pid ORDER BY l.lease_until) FILTER (WHERE l.is_out))[1] AS holder_pid,
           min(l.lease_until) FILTER (WHERE l.is_out) AS lease_until
    FROM lane l
    GROUP BY l.id
),
exception AS (
    SELECT d.subscription AS id,
           count(*) FILTER (WHERE d.state = 'retry') AS retrying,
           count(*) FILTER (WHERE d.state = 'parked') AS parked,
           count(*) FILTER (WHERE d.state = 'dead') AS dead,
           min(d."position") FILTER (WHERE d.state <> 'dead') AS oldest,
           bool_or(d.open) AS open
    FROM outbox.delivery d
    GROUP BY d.subscription
),
handler AS (
    SELECT s.id, f.oid AS function, n.oid AS schema, f.prokind = 'f' AND NOT f.proretset
               AND (s.kind <> 'aggregate' OR f.prorettype = 'jsonb'::regtype AND NOT f.proisstrict) AS fits
    FROM outbox.subscription s
    LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = s.handler_schema
    LEFT JOIN pg_catalog.pg_proc f
        ON f.pronamespace = n.oid AND f.proname = s.handler_name
       AND f.pronargs = CASE s.kind WHEN 'aggregate' THEN 2 ELSE 1 END
       AND f.proargtypes[0] = CASE s.handler_argument
                                  WHEN 'event' THEN 'outbox.event'::regtype
                                  WHEN 'event[]' THEN 'outbox.event[]'::regtype
                                  ELSE 'jsonb'::regtype END
       AND (s.kind <> 'aggregate' OR f.proargtypes[1] = 'outbox.event'::regtype)
    WHERE s.handler_name IS NOT NULL
)
SELECT s.name,
       pg_catalog.pg_get_userbyid(s.owner) AS owner,
       s.kind,
       CASE
           WHEN s.paused THEN 'paused'
           WHEN r.oid IS NULL OR s.handler_name IS NOT NULL AND
                (h.function IS NULL OR NOT h.fits OR NOT pg_catalog.has_function_privilege(r.oid, h.function, 'EXECUTE')
                 OR NOT pg_catalog.has_schema_privilege(r.oid, h.schema, 'USAGE'))
               THEN 'broken'
           WHEN p."position" < 0 OR p."position" + 1 < head.oldest THEN 'lost'
           -- faults that only a dispatcher finds, such as a filter on a dropped function
           WHEN f.subscription IS NOT NULL AND f."position" IS NULL THEN 'broken'
           WHEN s.ordering = 'strict' AND coalesce(x.open, false) THEN 'blocked'
           ELSE 'active'
       END AS state,
       p."position",
       head."position" AS head,
       head."position" - p."position" AS lag,
       pending."time" AS oldest_pending,
       coalesce(x.retrying, 0) AS retrying,
       coalesce(x.parked, 0) AS parked,
       coalesce(x.dead, 0) AS dead,
       p.delivered,
       p.failed,
       CASE
           WHEN r.oid IS NULL THEN 'the owner does not exist any more'
           WHEN s.handler_name IS NOT NULL AND h.function IS NULL THEN
               pg_catalog.format('function %I.%I(%s) does not exist', s.handler_schema, s.handler_name,
                                 CASE s.handler_argument WHEN 'jsonb' THEN 'jsonb'
                                      WHEN 'jsonb, event' THEN 'jsonb, outbox.event'
                                      ELSE 'outbox.' || s.handler_argument END)
           WHEN s.handler_name IS NOT NULL AND NOT h.fits THEN
               pg_catalog.format('function %I.%I cannot be a %s', s.handler_schema, s.handler_name,
                                 CASE s.kind WHEN 'aggregate' THEN 'reducer' ELSE 'handler' END)
           WHEN s.handler_name IS NOT NULL AND NOT pg_catalog.has_function_privilege(r.oid, h.function, 'EXECUTE') THEN
               pg_catalog.format('role %I may not execute function %I.%I', r.rolname, s.handler_schema, s.handler_name)
           WHEN s.handler_name IS NOT NULL AND NOT pg_catalog.has_schema_privilege(r.oid, h.schema, 'USAGE') THEN
               pg_catalog.format('role %I may not use schema %I', r.rolname, s.handler_schema)
           ELSE f.error
       END AS last_error,
       f.failed_at AS last_error_at,
       latency.p50 AS latency_p50,
       latency.p99 AS latency_p99,
       CASE WHEN NOT s.paused AND s.kind <> 'pull' AND r.oid IS NOT NULL
           THEN outbox.worker_obstacle(s.id, s.owner, s.concurrency) END AS worker,
       CASE WHEN s.paused THEN coalesce(s.paused_by, CASE WHEN s.paused_at IS NOT NULL THEN 'pg_outbox: the database is a copy' END)
           END AS paused_by,
       s.paused_at,
       CASE WHEN s.kind = 'pull' THEN p.lanes_held END AS lanes_held,
       p.holder,
       p.holder_pid,
       p.lease_until,
       s.id AS subscription_id,
       s.concurrency AS lanes,
       s.seeks,
       p.delivered - s.delivered_at_seek AS delivered_since_seek
FROM outbox.subscription s
CROSS JOIN head
JOIN progress p ON p.id = s.id
LEFT JOIN exception x ON x.id = s.id
LEFT JOIN handler h ON h.id = s.id
LEFT JOIN LATERAL (
    -- the newest version first: under an old snapshot many dead ones can be behind it
    SELECT l.subscription, l."position", l.error, l.failed_at
    FROM outbox.failure l
    WHERE l.subscription = s.id
    ORDER BY l.version DESC
    LIMIT 1) AS f ON true
LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.owner
LEFT JOIN LATERAL (
    SELECT g."time"
    FROM outbox.segment g
    WHERE g.first_position <= least(p."position" + 1, x.oldest)
      AND least(p."position" + 1, x.oldest) <= head."position"
    ORDER BY g.first_position DESC
    LIMIT 1) AS pending ON true
LEFT JOIN LATERAL (
    -- from the segment that a batch ended in to the batch's own record; the
    -- records of seeks, changes of lanes and retries have no latency
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY l.latency) AS p50,
           percentile_cont(0.99) WITHIN GROUP (ORDER BY l.latency) AS p99
    FROM (
        SELECT h."time" - g."time" AS latency
        FROM (
            SELECT v."position", v."time", v.receipt, v.delivered,
                   lag(v."position") OVER former AS former_position,
                   lag(v.delivered) OVER former AS former_delivered
            FROM (
                SELECT p.lane, p.version, p."position", p."time", p.receipt, p.delivered
                FROM outbox.progress p
                WHERE p.subscription = s.id
                ORDER BY p.lane, p.version DESC
                LIMIT 1000) AS v
            WINDOW former AS (PARTITION BY v.lane ORDER BY v.version)) AS h
        CROSS JOIN LATERAL (
            SELECT g."time"
            FROM outbox.segment g
            WHERE g.first_position <= h."position"
            ORDER BY g.first_position DESC
            LIMIT 1) AS g
        WHERE h.receipt IS NULL AND h."position" > h.former_position
          AND h.delivered > h.former_delivered) AS l) AS latency ON true;
COMMENT ON VIEW outbox.status IS 'the state and the progress of each subscription';

-- A barrier: conditions in a reader's query must see dead letters only, not the
-- rest of the log.
CREATE VIEW outbox.dead_letter WITH (security_barrier) AS
SELECT s.name AS subscription,
       d."position",
       e.id, e.xid, e."time", e.type, e.source, e.key, e.operation, e.data, e.old, e.headers,
       e.correlation_id, e.causation_id,
       d.attempts,
       d.open AS blocking,
       d.error,
       d.error_detail,
       d.failed_at,
       d.sqlstate,
       d.error_context,
       d.history
FROM outbox.delivery d
JOIN outbox.subscription s ON s.id = d.subscription
LEFT JOIN outbox.event e ON e.xid = d.xid AND e.id = d.event_id
WHERE d.state = 'dead';
COMMENT ON VIEW outbox.dead_letter IS 'events that a subscription has given up';

-- Which event stands at a position, by what it can be looked up with: no secrets.
CREATE FUNCTION outbox.handed_out(
    subscription integer,
    lane integer,
    OUT "position" bigint,
    OUT xid xid8,
    OUT event_id bigint
) RETURNS SETOF record
    LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 100
    AS 'MODULE_PATHNAME', 'obx_sql_handed_out';
COMMENT ON FUNCTION outbox.handed_out(integer, integer) IS
    'what a consumer has of a lane';

-- A barrier, as above.
CREATE VIEW outbox.waiting WITH (security_barrier) AS
WITH lane AS (
    SELECT s.id, s.name, l.lane, p.receipt, p.holder, p.holder_pid, p.lease_until,
           coalesce(p.lease_until > pg_catalog.clock_timestamp(), false) AS is_out,
           p.retries_count, p.handed
    FROM outbox.subscription s
    CROSS JOIN LATERAL generate_series(0, s.concurrency - 1) AS l(lane)
    CROSS JOIN LATERAL (
        SELECT p.receipt, p.holder, p.holder_pid, p.lease_until, p.handed, p.retries_count
        FROM outbox.progress p
        WHERE p.subscription = s.id AND p.lane = l.lane
        ORDER BY p.version DESC
        LIMIT 1) AS p
    WHERE s.kind = 'pull'
),
handed AS (
    SELECT l.id, l.lane, h."position", h.xid, h.event_id, l.holder, l.holder_pid, l.lease_until
    FROM lane l
    CROSS JOIN LATERAL outbox.handed_out(l.id, l.lane) AS h
    WHERE l.is_out AND coalesce(l.handed, 0) + coalesce(l.retries_count, 0) > 0
),
item AS (
    SELECT d.subscription, d."position", d.xid, d.event_id,
           CASE WHEN h."position" IS NOT NULL THEN 'handed out' WHEN d.state = 'retry' THEN 'retrying' ELSE d.state END AS state,
           d.attempts, d.next_at,
           CASE WHEN d.state = 'parked' THEN coalesce(before_key."position", before."position") END AS waits_for,
           h.holder, h.holder_pid, h.lease_until, d.sqlstate, d.error, d.error_detail, d.error_context, d.history
    FROM outbox.delivery d
    JOIN outbox.subscription s ON s.id = d.subscription
    LEFT JOIN handed h ON h.id = d.subscription AND h."position" = d."position"
    LEFT JOIN LATERAL (
        SELECT b."position"
        FROM outbox.delivery b
        WHERE b.subscription = d.subscription AND b.lane = d.lane AND b.key_hash = d.key_hash
          AND b."position" < d."position" AND b.open
        ORDER BY b."position" DESC
        LIMIT 1) AS before_key ON d.state = 'parked' AND s.ordering = 'key'
    LEFT JOIN LATERAL (
        SELECT b."position"
        FROM outbox.delivery b
        WHERE b.subscription = d.subscription AND b.lane = d.lane AND b.open AND b."position" < d."position"
        ORDER BY b."position" DESC
        LIMIT 1) AS before ON d.state = 'parked' AND s.ordering = 'strict'
    WHERE d.state <> 'dead'
    UNION ALL
    SELECT h.id, h."position", h.xid, h.event_id, 'handed out', 0, NULL, NULL,
           h.holder, h.holder_pid, h.lease_until, NULL, NULL, NULL, NULL, NULL
    FROM handed h
    WHERE NOT EXISTS (SELECT FROM outbox.delivery d WHERE d.subscription = h.id AND d."position" = h."position")
)
SELECT s.name AS subscription,
       i."position",
       e.id, e.xid, e."time", e.type, e.source, e.key, e.operation, e.data, e.old, e.headers,
       e.correlation_id, e.causation_id,
       i.state,
       i.attempts,
       i.next_at,
       i.waits_for,
       i.holder,
       i.holder_pid,
       i.lease_until,
       i.sqlstate,
       i.error,
       i.error_detail,
       i.error_context,
       i.history
FROM item i
JOIN outbox.subscription s ON s.id = i.subscription
LEFT JOIN outbox.event e ON e.xid = i.xid AND e.id = i.event_id;
COMMENT ON VIEW outbox.waiting IS 'events that a subscription has come to and not dealt with, but for dead letters';
