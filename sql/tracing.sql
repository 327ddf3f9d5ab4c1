-- Explaining: which events led to which, and where an event is.  These functions
-- run as the extension's owner, so their caller needs only EXECUTE.

CREATE FUNCTION outbox.trace(correlation_id text) RETURNS TABLE (
    depth integer,
    "position" bigint,
    id bigint,
    causation_id bigint,
    "time" timestamptz,
    type text,
    key text,
    source text,
    subscription text,
    state text,
    attempts integer,
    handled_at timestamptz
)
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'obx_sql_trace';
COMMENT ON FUNCTION outbox.trace(text) IS
    'the events of a correlation as a tree, with the outcome in each subscription that selects them';

CREATE FUNCTION outbox.duration_text(duration interval) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN $1 < interval '1 s' THEN round(extract(epoch FROM $1)::numeric * 1000, 1) || ' ms'
            WHEN $1 < interval '2 min' THEN round(extract(epoch FROM $1)::numeric, 1) || ' s'
            ELSE to_char($1, 'HH24:MI:SS') END
$$;
COMMENT ON FUNCTION outbox.duration_text(interval) IS 'a duration as readable text';

-- The rows of trace(), in the order of the tree, in words.
CREATE FUNCTION outbox.trace_words(
    correlation_id text,
    OUT n bigint,
    OUT depth integer,
    OUT "position" bigint,
    OUT id bigint,
    OUT causation_id bigint,
    OUT emitted timestamptz,
    OUT handled timestamptz,
    OUT event text,
    OUT subscription text,
    OUT outcome text
) RETURNS SETOF record
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT t.ordinality, t.depth, t."position", t.id, t.causation_id, t."time", t.handled_at,
       regexp_replace(concat_ws(' ', t.type, t.key), '[[:cntrl:]]+', ' ', 'g'),
       regexp_replace(t.subscription, '[[:cntrl:]]+', ' ', 'g'),
       regexp_replace(
           t.state
           || CASE WHEN t.state = 'delivered' AND t.attempts > 1 THEN format(' at attempt %s', t.attempts)
                   WHEN t.state IN ('retrying', 'dead') THEN format(' after %s attempt%s', t.attempts, CASE WHEN t.attempts <> 1 THEN 's' END)
                   ELSE '' END
           || coalesce(', ' || outbox.duration_text(t.handled_at - segment."time") || ' after commit', '')
           || CASE WHEN exception.state = 'retry'
                   THEN to_char(exception.next_at, '", next at" YYYY-MM-DD HH24:MI:SSOF') ELSE '' END
           || coalesce(': ' || exception.error, ''),
           '[[:cntrl:]]+', ' ', 'g')
FROM outbox.trace(trace_words.correlation_id) WITH ORDINALITY AS t
LEFT JOIN outbox.subscription AS s ON s.name = t.subscription
LEFT JOIN outbox.delivery AS exception ON exception.subscription = s.id AND exception."position" = t."position"
LEFT JOIN LATERAL (
    SELECT g."time"
    FROM outbox.segment g
    WHERE g.first_position <= t."position"
    ORDER BY g.first_position DESC
    LIMIT 1) AS segment ON true
$$;
COMMENT ON FUNCTION outbox.trace_words(text) IS 'the words of trace_text() and trace_mermaid()';

CREATE FUNCTION outbox.trace_text(correlation_id text) RETURNS text
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH word AS MATERIALIZED (
    SELECT w.*, lag(w.id) OVER (ORDER BY w.n) IS DISTINCT FROM w.id AS is_first,
           -- the indentation is limited: a long chain would be mostly spaces
           repeat('    ', least(w.depth, 64)) || CASE WHEN w.depth > 64 THEN '[' || w.depth || '] ' ELSE '' END AS indentation
    FROM outbox.trace_words(trace_text.correlation_id) AS w
),
line AS (
    SELECT w.n, 0 AS part,
           w.indentation || w.event
           || format(' (%s, id %s)', coalesce('position ' || w."position", 'no position yet'), w.id) AS line
    FROM word w
    WHERE w.is_first
    UNION ALL
    SELECT w.n, 1, w.indentation || format('  > %s: %s', w.subscription, w.outcome)
    FROM word w
    WHERE w.subscription IS NOT NULL
)
SELECT coalesce(
    (SELECT string_agg(l.line, E'\n' ORDER BY l.n, l.part) FROM line l)
    || (SELECT format(E'\n%s event%s since %s, the last of it after %s', count(*), CASE WHEN count(*) <> 1 THEN 's' END,
                      to_char(min(w.emitted), 'YYYY-MM-DD HH24:MI:SS.MSOF'),
                      outbox.duration_text(max(greatest(w.emitted, w.last)) - min(w.emitted)))
        FROM (SELECT e.emitted, e.is_first, max(e.handled) OVER () AS last FROM word e) AS w
        WHERE w.is_first),
    'No event of the log has this correlation id.')
$$;
COMMENT ON FUNCTION outbox.trace_text(text) IS 'trace() as an indented text';

CREATE FUNCTION outbox.trace_mermaid(correlation_id text) RETURNS text
    LANGUAGE sql STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH word AS MATERIALIZED (
    SELECT w.n, w.depth, w.id, w.causation_id,
           lag(w.id) OVER (ORDER BY w.n) IS DISTINCT FROM w.id AS is_first,
           w.subscription IS NOT NULL AS is_delivery,
           escape.event, escape.delivery
    FROM outbox.trace_words(trace_mermaid.correlation_id) AS w
    CROSS JOIN LATERAL (
        -- a label is quoted; special characters are written as #code;
        SELECT max(e.label) FILTER (WHERE e.n = 1) AS event, max(e.label) FILTER (WHERE e.n = 2) AS delivery
        FROM (
            SELECT u.n,
                   replace(replace(replace(replace(replace(replace(replace(u.label,
                       '#', '#35;'), '&', '#38;'), '"', '#34;'), '<', '#60;'), '>', '#62;'), '`', '#96;'), E'\n', '<br/>') AS label
            FROM unnest(ARRAY[
                w.event || E'\n' || coalesce('position ' || w."position", 'no position yet'),
                w.subscription || E'\n' || w.outcome]) WITH ORDINALITY AS u(label, n)) AS e) AS escape
)
SELECT concat_ws(E'\n', 'flowchart TD', string_agg(l.line, E'\n' ORDER BY l.n, l.part))
FROM (
    SELECT w.n, 0 AS part, format('    e%s["%s"]', w.id, w.event) AS line
    FROM word w
    WHERE w.is_first
    UNION ALL
    SELECT w.n, 1, format('    e%s --> e%s', w.causation_id, w.id)
    FROM word w
    WHERE w.is_first AND w.depth > 0
    UNION ALL
    SELECT w.n, 2, format('    e%s -.-> d%s(["%s"])', w.id, w.n, w.delivery)
    FROM word w
    WHERE w.is_delivery) AS l
$$;
COMMENT ON FUNCTION outbox.trace_mermaid(text) IS 'trace() as a flowchart for Mermaid';

CREATE FUNCTION outbox.why_not_delivered(event_id bigint) RETURNS text
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'obx_sql_why_not_delivered';
COMMENT ON FUNCTION outbox.why_not_delivered(bigint) IS 'where an event is, for each subscription';
