-- Capture: rules that turn changes of tables into events.

CREATE FUNCTION outbox.capture_row() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_capture_row';
COMMENT ON FUNCTION outbox.capture_row() IS
    'trigger function of capture rules, for rows; made by outbox.capture()';

CREATE FUNCTION outbox.capture_statement() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_capture_statement';
COMMENT ON FUNCTION outbox.capture_statement() IS
    'trigger function of capture rules, for TRUNCATE; made by outbox.capture()';

CREATE FUNCTION outbox.capture(
    relation regclass,
    operations text[] DEFAULT NULL,
    type text DEFAULT NULL,
    condition text DEFAULT NULL,
    key text[] DEFAULT NULL,
    columns text[] DEFAULT NULL,
    exclude text[] DEFAULT NULL,
    old_values text DEFAULT 'changed',
    name text DEFAULT NULL,
    replicated boolean DEFAULT false,
    if_exists text DEFAULT 'error'
) RETURNS text
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_capture';
COMMENT ON FUNCTION outbox.capture(regclass, text[], text, text, text[], text[], text[], text, text, boolean, text) IS
    'captures changes of a table as events; returns the rule''s name';

CREATE FUNCTION outbox.uncapture(relation regclass, name text DEFAULT NULL) RETURNS integer
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_uncapture';
COMMENT ON FUNCTION outbox.uncapture(regclass, text) IS
    'removes one capture rule of a table, or all; returns how many';

CREATE FUNCTION outbox.snapshot(relation regclass, batch_size integer DEFAULT 10000) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_snapshot';
COMMENT ON FUNCTION outbox.snapshot(regclass, integer) IS
    'emits the next existing rows of a captured table; returns how many, 0 after the last';

CREATE FUNCTION outbox.capture_follow_ddl() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_capture_follow_ddl';
COMMENT ON FUNCTION outbox.capture_follow_ddl() IS
    'event trigger function: capture rules follow renamed columns, new partitions and children';

CREATE FUNCTION outbox.capture_permit_partitions() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_capture_permit_partitions';
COMMENT ON FUNCTION outbox.capture_permit_partitions() IS
    'event trigger function: owners of captured tables may make partitions of them';

CREATE FUNCTION outbox.capture_follow_drop() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_capture_follow_drop';
COMMENT ON FUNCTION outbox.capture_follow_drop() IS
    'event trigger function: refuses to drop a column that a capture rule names';

-- A rule is one trigger for rows, one for TRUNCATE, or both, with the same
-- argument; and their clones on the tables below.  Triggers of others must not
-- break the view, so the argument is checked before it is parsed.  The view
-- uses only functions that PUBLIC can execute, because its readers need no
-- EXECUTE on the extension's functions.
CREATE VIEW outbox.capture_rule AS
WITH RECURSIVE our_trigger AS MATERIALIZED (
    SELECT t.oid, t.tgrelid, t.tgparentid, t.tgenabled,
           t.tgenabled IN ('O', 'A') AS fires,
           (t.tgtype::integer & 1) = 1 AS is_row,
           CASE WHEN t.tgparentid = 0 AND t.tgnargs = 1 AND t.tgconstraint = 0
                     AND NOT t.tgdeferrable AND pg_catalog.cardinality(t.tgattr::pg_catalog.int2[]) = 0
                     AND t.tgoldtable IS NULL AND t.tgnewtable IS NULL
                THEN pg_catalog.convert_from(
                         pg_catalog.substr(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1),
                         pg_catalog.getdatabaseencoding()) END AS argument
    FROM pg_catalog.pg_trigger t
    WHERE t.tgfoid IN ('outbox.capture_row()'::pg_catalog.regprocedure,
                       'outbox.capture_statement()'::pg_catalog.regprocedure)
), string AS (
    SELECT E'"(?:[^"\\\\[:cntrl:]]|\\\\["\\\\/bfnrt]|\\\\u00(?:0[1-9a-f]|1[0-9a-f]))*"' AS pattern
), origin AS MATERIALIZED (
    SELECT o.oid, o.tgrelid, o.tgenabled, o.is_row, o.argument::jsonb AS argument
    FROM our_trigger o
    CROSS JOIN string s
    WHERE CASE WHEN o.argument ~ pg_catalog.replace(
                   E'^\\{ *(?:@ *: *(?:null|true|false|@|[0-9]{1,9}|\\[ *(?:@(?: *, *@)*)? *\\])(?: *, *(?!\\}))?)+ *\\}$',
                   '@', s.pattern)
               THEN pg_catalog.jsonb_typeof(o.argument::jsonb -> 'name') = 'string' END
), below (root, relation) AS (
    SELECT DISTINCT o.tgrelid, o.tgrelid FROM origin o
    UNION
    SELECT b.root, i.inhrelid FROM below b
    JOIN pg_catalog.pg_inherits i ON i.inhparent = b.relation
), part (origin, oid, relation, fires) AS (
    SELECT o.oid, o.oid, o.tgrelid, o.tgenabled IN ('O', 'A') FROM origin o
    UNION ALL
    SELECT p.origin, t.oid, t.tgrelid, t.fires FROM part p
    JOIN our_trigger t ON t.tgparentid = p.oid
), incomplete AS MATERIALIZED (
    SELECT DISTINCT o.oid
    FROM origin o
    JOIN below b ON b.root = o.tgrelid
    JOIN pg_catalog.pg_class c ON c.oid = b.relation
    LEFT JOIN part p ON p.origin = o.oid AND p.relation = b.relation
    WHERE p.fires IS NOT TRUE
      -- foreign tables have no triggers for TRUNCATE before 16
      AND (o.is_row OR c.relkind <> 'f'
           OR pg_catalog.current_setting('server_version_num')::integer >= 160000)
), rule_trigger AS MATERIALIZED (
    SELECT o.tgrelid, o.argument,
           pg_catalog.bool_or(o.tgenabled IN ('A', 'R')) AS replicated,
           pg_catalog.bool_and(i.oid IS NULL)
               AND (pg_catalog.bool_or(o.is_row)
                    OR NOT o.argument -> 'operations' ?| '{insert,update,delete}')
               AND (pg_catalog.bool_or(NOT o.is_row)
                    OR NOT o.argument -> 'operations' ? 'truncate') AS enabled
    FROM origin o
    LEFT JOIN incomplete i ON i.oid = o.oid
    GROUP BY o.tgrelid, o.argument
)
SELECT r.tgrelid::pg_catalog.regclass AS relation,
       r.argument ->> 'name' AS name,
       ARRAY(
           SELECT pg_catalog.jsonb_array_elements_text(r.argument -> 'operations')
           WHERE pg_catalog.jsonb_typeof(r.argument -> 'operations') = 'array'
       ) AS operations,
       r.argument ->> 'type' AS type,
       r.argument ->> 'condition' AS condition,
       CASE pg_catalog.jsonb_typeof(r.argument -> 'key')
           WHEN 'array' THEN (
               SELECT pg_catalog.array_agg(k.name ORDER BY k.number)
               FROM pg_catalog.jsonb_array_elements_text(r.argument -> 'key')
                   WITH ORDINALITY AS k (name, number))
           ELSE (
               SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.number)
               FROM pg_catalog.pg_index i
               CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[])
                   WITH ORDINALITY AS k (attnum, number)
               JOIN pg_catalog.pg_attribute a
                   ON a.attrelid = i.indrelid AND a.attnum = k.attnum
               WHERE i.indrelid = r.tgrelid
                 AND (i.indisprimary OR i.indisreplident AND NOT EXISTS (
                     SELECT FROM pg_catalog.pg_index p
                     WHERE p.indrelid = r.tgrelid AND p.indisprimary))
                 AND k.number <= i.indnkeyatts)
       END AS key,
       ARRAY(
           SELECT a.attname::text
           FROM pg_catalog.pg_attribute a
           WHERE a.attrelid = r.tgrelid AND a.attnum > 0 AND NOT a.attisdropped
             AND a.attgenerated <> 'v'
             AND (pg_catalog.jsonb_typeof(r.argument -> 'columns') <> 'array'
                  OR r.argument -> 'columns' ? a.attname::text)
             AND NOT (pg_catalog.jsonb_typeof(r.argument -> 'exclude') = 'array'
                      AND r.argument -> 'exclude' ? a.attname::text)
           ORDER BY a.attnum) AS columns,
       r.argument ->> 'old_values' AS old_values,
       r.replicated,
       r.enabled
FROM rule_trigger r
ORDER BY r.tgrelid, (r.argument ->> 'name') COLLATE "C";
COMMENT ON VIEW outbox.capture_rule IS 'the capture rules of all tables';
COMMENT ON COLUMN outbox.capture_rule.relation IS 'table for which the rule was made';
COMMENT ON COLUMN outbox.capture_rule.name IS 'rule; unique for its table';
COMMENT ON COLUMN outbox.capture_rule.operations IS 'the captured ones of insert, update, delete and truncate';
COMMENT ON COLUMN outbox.capture_rule.type IS
    'event type; NULL: the table''s name with .inserted, .updated, .deleted or .truncated';
COMMENT ON COLUMN outbox.capture_rule.condition IS 'as it was written; NULL for none';
COMMENT ON COLUMN outbox.capture_rule.key IS 'columns that form the ordering key; NULL for none';
COMMENT ON COLUMN outbox.capture_rule.columns IS 'columns that data has now';
COMMENT ON COLUMN outbox.capture_rule.old_values IS 'none, changed or all';
COMMENT ON COLUMN outbox.capture_rule.replicated IS
    'true if changes by logical replication are captured, too';
COMMENT ON COLUMN outbox.capture_rule.enabled IS
    'true if its triggers exist and fire, on its table and all tables below';
