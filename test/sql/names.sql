-- The interface: names, arguments, defaults and results are a contract.
CREATE EXTENSION pg_outbox;
SELECT extname, nspname, extrelocatable FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname = 'pg_outbox';

-- functions and procedures
\pset format unaligned
\pset tuples_only on
SELECT CASE WHEN f.oid IS NULL THEN 'missing: ' || n.name
            ELSE f.proname || '(' || replace(pg_get_function_arguments(f.oid), 'IN ', '') || ') '
                 || CASE f.prokind WHEN 'p' THEN 'procedure' ELSE 'returns ' || pg_get_function_result(f.oid) END
       END
FROM unnest('{publish,publish_many,cancel_scheduled,capture,uncapture,subscribe,unsubscribe,pause,resume,
              aggregate,read,oldest,head,position_of,once,wait,run,apply_retention,generation,
              current_position,current_attempt,current_subscription,is_replay,
              register_type,unregister_type,to_cloudevent}'::name[]) WITH ORDINALITY AS n (name, number)
LEFT JOIN pg_proc f ON f.proname = n.name AND f.pronamespace = 'outbox'::regnamespace
ORDER BY n.number, pg_get_function_identity_arguments(f.oid) COLLATE "C";
\pset tuples_only off
\pset format aligned

-- the log and the views: columns, in this order
SELECT c.relname AS relation, a.attname AS column, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null
FROM unnest('{event,status,worker,dead_letter,aggregation,capture_rule,event_type,metrics,debezium_outbox,scheduled}'::name[]) WITH ORDINALITY AS n (name, number)
JOIN pg_class c ON c.relname = n.name AND c.relnamespace = 'outbox'::regnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
ORDER BY n.number, a.attnum;

-- read() returns the position, and then the event's columns
SELECT (SELECT array_agg(format_type(atttypid, NULL) || ' ' || attname ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = 'outbox.positioned_event'::regclass AND attnum > 0)
       = '{bigint position}'::text[] || (SELECT array_agg(format_type(atttypid, NULL) || ' ' || attname ORDER BY attnum)
                                         FROM pg_attribute WHERE attrelid = 'outbox.event'::regclass AND attnum > 0) AS same
FROM pg_proc f WHERE f.oid = 'outbox.read'::regproc;

-- settings
SELECT name, boot_val, unit, context, vartype FROM pg_settings WHERE name LIKE 'outbox.%' ORDER BY name;

-- what C code looks up by a text is sorted by bytes, whatever the database's collation
SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid, unnest(i.indcollation) AS o (oid)
WHERE c.relnamespace = 'outbox'::regnamespace AND o.oid NOT IN (0, '"C"'::regcollation);

-- everything has a comment
SELECT 'relation' AS kind, c.relname FROM pg_class c
WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT 'function', f.proname FROM pg_proc f
WHERE f.pronamespace = 'outbox'::regnamespace AND obj_description(f.oid, 'pg_proc') IS NULL;

-- nothing that pg_upgrade would refuse is stored
SELECT a.attrelid::regclass, a.attname, a.atttypid::regtype
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'p')
  AND a.atttypid IN ('regproc'::regtype, 'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype,
                     'regconfig'::regtype, 'regdictionary'::regtype, 'regcollation'::regtype, 'regnamespace'::regtype);

-- every table of ours is in a dump, or is dumped by itself; a snapshot that was
-- under way starts over
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'S') AND c.relname <> 'snapshot_progress'
  AND NOT c.oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'pg_outbox')::oid[]);
DROP EXTENSION pg_outbox;
