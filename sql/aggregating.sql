-- Aggregating: many events, one new event.

CREATE FUNCTION outbox.aggregate(
    name text,
    types text[],
    emit_type text,
    reducer text,
    max_events integer DEFAULT NULL,
    quiet interval DEFAULT NULL,
    period interval DEFAULT NULL,
    until text DEFAULT NULL,
    filter text DEFAULT NULL,
    start text DEFAULT 'now',
    if_exists text DEFAULT 'error'
) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_aggregate';
COMMENT ON FUNCTION outbox.aggregate(text, text[], text, text, integer, interval, interval, text, text, text, text) IS
    'folds the events of each key, and emits one event of another type when a window is complete';

-- A barrier: conditions in a reader's query must not see closed windows.
CREATE VIEW outbox.aggregation WITH (security_barrier) AS
SELECT s.name,
       w.key,
       w.state,
       w.events,
       w.since,
       w.due
FROM (
    SELECT DISTINCT ON (w.subscription, w.key)
           w.subscription, w.key, w.open, w.state, w.events, w.since, w.due
    FROM outbox.aggregate_window w
    ORDER BY w.subscription DESC, w.key DESC, w.version DESC) AS w
JOIN outbox.subscription s ON s.id = w.subscription
WHERE w.open;
COMMENT ON VIEW outbox.aggregation IS 'the open windows of aggregates';
