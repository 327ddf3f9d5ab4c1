-- Metrics, named by the rules of Prometheus: the unit at the end, and only base
-- units.  No query here reads events: counts come from positions, from
-- the planner's estimates and from file sizes.

CREATE VIEW outbox.metrics AS
WITH status AS MATERIALIZED (
    SELECT * FROM outbox.status
)
SELECT m.name, pg_catalog.jsonb_build_object('subscription', s.name) AS labels, m.value
FROM status s
CROSS JOIN LATERAL (VALUES
    ('outbox_subscription_position', s."position"::double precision),
    ('outbox_subscription_lag_events', s.lag),
    ('outbox_subscription_oldest_pending_seconds',
     -- a moment ago may be in the future of a clock that was set
     greatest(coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - s.oldest_pending), 0), 0)),
    ('outbox_subscription_retrying_events', s.retrying),
    ('outbox_subscription_parked_events', s.parked),
    ('outbox_subscription_dead_events', s.dead),
    ('outbox_subscription_delivered_events_total', s.delivered),
    ('outbox_subscription_failed_attempts_total', s.failed),
    ('outbox_subscription_last_error_timestamp_seconds', extract(epoch FROM s.last_error_at)),
    ('outbox_subscription_without_worker', (s.worker IS NOT NULL)::integer)
) AS m (name, value)
WHERE m.value IS NOT NULL
UNION ALL
SELECT 'outbox_subscription_latency_seconds',
       pg_catalog.jsonb_build_object('subscription', s.name, 'quantile', q.quantile),
       extract(epoch FROM q.latency)
FROM status s
CROSS JOIN LATERAL (VALUES ('0.5', s.latency_p50), ('0.99', s.latency_p99)) AS q (quantile, latency)
WHERE q.latency IS NOT NULL
UNION ALL
SELECT 'outbox_subscription_state',
       pg_catalog.jsonb_build_object('subscription', s.name, 'state', t.state),
       (s.state = t.state)::integer
FROM status s
CROSS JOIN pg_catalog.unnest('{active,paused,blocked,broken,lost}'::text[]) AS t (state)
UNION ALL
SELECT m.name, '{}', m.value
FROM (SELECT g.first_position, g."time"
      FROM (VALUES (true)) AS one
      LEFT JOIN LATERAL (
          SELECT g.first_position, g."time"
          FROM outbox.segment g
          WHERE g.events > 0
          ORDER BY g.first_position
          LIMIT 1) AS g ON true) AS oldest
CROSS JOIN (SELECT coalesce(max(h."position"), 0) AS "position"
            FROM (SELECT g.first_position + g.events - 1 AS "position"
                  FROM outbox.segment g
                  ORDER BY g.first_position DESC
                  LIMIT 1) AS h) AS head
CROSS JOIN LATERAL (VALUES
    ('outbox_log_head_position', head."position"::double precision),
    ('outbox_log_oldest_position', oldest.first_position),
    ('outbox_log_oldest_age_seconds',
     greatest(extract(epoch FROM pg_catalog.clock_timestamp() - oldest."time"), 0)),
    ('outbox_log_events', coalesce(head."position" - oldest.first_position + 1, 0))
) AS m (name, value)
WHERE m.value IS NOT NULL
UNION ALL
SELECT m.name, '{}', m.value
FROM (SELECT count(*) FILTER (WHERE p.isleaf) AS partitions,
             sum(pg_catalog.pg_total_relation_size(p.relid)) AS bytes
      FROM pg_catalog.pg_partition_tree('outbox.event') AS p) AS log
CROSS JOIN LATERAL (VALUES
    ('outbox_log_size_bytes', log.bytes::double precision),
    ('outbox_log_partitions', log.partitions)
) AS m (name, value)
UNION ALL
-- partitions that retention cannot drop, because another object depends on them
SELECT 'outbox_log_undroppable_partitions', '{}', count(*)
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_type t ON t.oid = c.reltype
WHERE i.inhparent = 'outbox.event'::pg_catalog.regclass
  AND c.relname <> 'event_default'
  AND (EXISTS (SELECT FROM pg_catalog.pg_depend d
               WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
                 AND d.deptype = 'n')
       OR EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass
                    AND d.refobjid IN (t.oid, t.typarray) AND d.deptype = 'n'))
UNION ALL
SELECT 'outbox_log_segments', '{}', greatest(c.reltuples, 0)
FROM pg_catalog.pg_class c
WHERE c.oid = 'outbox.segment'::pg_catalog.regclass
UNION ALL
SELECT 'outbox_scheduled_events', '{}', greatest(c.reltuples, 0)
FROM pg_catalog.pg_class c
WHERE c.oid = 'outbox.schedule'::pg_catalog.regclass
UNION ALL
SELECT 'outbox_scheduled_overdue_seconds', '{}',
       greatest(coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - (
           SELECT s.deliver_at FROM outbox.schedule s ORDER BY s.deliver_at, s.id LIMIT 1)), 0), 0)
UNION ALL
SELECT 'outbox_bookkeeping_size_bytes',
       pg_catalog.jsonb_build_object('table', c.relname),
       pg_catalog.pg_total_relation_size(c.oid)
FROM pg_catalog.pg_class c
WHERE c.relnamespace = 'outbox'::pg_catalog.regnamespace AND c.relkind = 'r' AND NOT c.relispartition
UNION ALL
SELECT 'outbox_worker_processes', pg_catalog.jsonb_build_object('role', w.role, 'state', w.state), count(*)
FROM outbox.worker_slots() w
GROUP BY w.role, w.state;
COMMENT ON VIEW outbox.metrics IS 'figures for an exporter; each row is a sample of a Prometheus metric';
COMMENT ON COLUMN outbox.metrics.name IS 'metric; ..._total are counters, the others gauges';
COMMENT ON COLUMN outbox.metrics.labels IS 'an object of strings';
