-- Metrics: every figure of status, of the log and of the workers, under names
-- that Prometheus takes.
SET client_min_messages = warning;
CREATE EXTENSION pg_outbox;
SET application_name = 'metrics';
-- an empty log
SELECT name, labels, value FROM outbox.metrics WHERE name ~ '^outbox_log_' AND name NOT IN ('outbox_log_size_bytes', 'outbox_log_partitions') ORDER BY 1;

CREATE FUNCTION fails_sometimes(e outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF e.type = 'Bad' THEN RAISE 'bad' USING ERRCODE = e.data->>'code'; END IF;
END $$;
CREATE FUNCTION gone(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT outbox.subscribe('function', handler => 'fails_sometimes', backoff => '1 day', max_backoff => '1 day');
SELECT outbox.subscribe('strict', '{Bad}', handler => 'fails_sometimes', ordering => 'strict', backoff => '1 day', max_backoff => '1 day');
SELECT outbox.subscribe('channel', channel => 'c');
SELECT outbox.subscribe('broken', handler => 'gone');
SELECT outbox.subscribe('paused "one"');
SELECT outbox.pause('paused "one"');
DROP FUNCTION gone;
SELECT count(outbox.publish('Good', key => g::text)) FROM generate_series(1, 5) g;
SELECT outbox.publish('Bad', '{"code": "P0001"}', 'k') > 0 AND outbox.publish('Good', key => 'k') > 0
   AND outbox.publish('Bad', '{"code": "OB002"}', 'dead') > 0 AS emitted;
CALL outbox.run();

SELECT name, labels, value FROM outbox.metrics
WHERE name !~ '_(seconds|bytes)$' AND name NOT IN ('outbox_worker_processes', 'outbox_log_partitions', 'outbox_log_segments', 'outbox_scheduled_events') AND value <> 0
ORDER BY name COLLATE "C", labels::text COLLATE "C";
-- those that move are there, and not negative
SELECT name, CASE WHEN labels ? 'table' THEN count(*) > 5 ELSE count(*) >= 1 END AS there, bool_and(value >= 0) AS sane FROM outbox.metrics
WHERE name ~ '_(seconds|bytes)$' OR name = 'outbox_log_segments' GROUP BY 1, labels ? 'table' ORDER BY name COLLATE "C";
-- ... and say what status says
SELECT s.name, s.state, m.value > 0 AS pending, (m.value > 0) = (s.oldest_pending IS NOT NULL) AS same
FROM outbox.status s JOIN outbox.metrics m ON m.labels->>'subscription' = s.name AND m.name = 'outbox_subscription_oldest_pending_seconds' ORDER BY 1;
SELECT bool_and(extract(epoch FROM s.last_error_at) = m.value) AS same
FROM outbox.status s JOIN outbox.metrics m ON m.labels->>'subscription' = s.name AND m.name = 'outbox_subscription_last_error_timestamp_seconds';
SELECT bool_and(extract(epoch FROM CASE m.labels->>'quantile' WHEN '0.5' THEN s.latency_p50 ELSE s.latency_p99 END) = m.value) AS same
FROM outbox.status s JOIN outbox.metrics m ON m.labels->>'subscription' = s.name AND m.name = 'outbox_subscription_latency_seconds';
SELECT m.value = count(*) AS same FROM outbox.metrics m, pg_inherits WHERE name = 'outbox_log_partitions' AND inhparent = 'outbox.event'::regclass GROUP BY m.value;
SELECT value FROM outbox.metrics WHERE name = 'outbox_scheduled_overdue_seconds';
SELECT outbox.publish('Later', deliver_at => clock_timestamp() + interval '50 milliseconds'), outbox.publish('Later', deliver_at => clock_timestamp() + interval '1 day');
ANALYZE outbox.schedule;
SELECT pg_sleep(0.06);
SELECT name, value > 0 AS due, name <> 'outbox_scheduled_events' OR value = 2 AS there FROM outbox.metrics WHERE name ~ 'scheduled' ORDER BY name;
-- every subscription is in exactly one state
SELECT labels->>'subscription' AS subscription, count(*), sum(value) FROM outbox.metrics WHERE name = 'outbox_subscription_state' GROUP BY 1 ORDER BY min(labels->>'subscription') COLLATE "C";
-- samples are unique, names and labels are what Prometheus takes
SELECT count(*) - count(DISTINCT (name, labels)) AS repeated, bool_and(name ~ '^outbox_[a-z_]+$') AS names,
       bool_and(jsonb_typeof(labels) = 'object' AND NOT EXISTS (
           SELECT FROM jsonb_each(labels) l WHERE l.key !~ '^[a-z_]+$' OR jsonb_typeof(l.value) <> 'string')) AS labels
FROM outbox.metrics;
-- no event is read for it, nor any row of a table that grows with them
CREATE FUNCTION plan() RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE 'EXPLAIN (COSTS OFF) SELECT * FROM outbox.metrics';
END $$;
SELECT count(*) FROM plan() AS line WHERE line ~ 'Scan.* on (event|segment)' AND line !~ 'Index (Only )?Scan';
DROP EXTENSION pg_outbox CASCADE;
DROP FUNCTION plan;
