-- Refuses a schema that someone else prepared: its owner could replace every
-- object in it, and what lies in it already could be found instead of
-- PostgreSQL's own.  A superuser's empty schema is what pg_restore finds.
DO $$
DECLARE
    schema oid;
    owner oid;
BEGIN
    SELECT n.oid, n.nspowner INTO schema, owner
    FROM pg_catalog.pg_namespace n
    WHERE n.nspname OPERATOR(pg_catalog.=) 'outbox';

    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r
                   WHERE r.oid OPERATOR(pg_catalog.=) owner
                     AND (r.rolsuper OR r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)) THEN
        RAISE EXCEPTION 'schema "outbox" belongs to another role'
            USING ERRCODE = 'duplicate_schema',
                  DETAIL = 'Its owner could replace what the extension makes in it.',
                  HINT = 'Drop the schema, or give it to the role that creates the extension.';
    END IF;

    IF EXISTS (SELECT FROM pg_catalog.pg_depend d
               WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                 AND d.refobjid OPERATOR(pg_catalog.=) schema
                 AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass) THEN
        RAISE EXCEPTION 'schema "outbox" is not empty'
            USING ERRCODE = 'duplicate_schema',
                  DETAIL = 'The extension makes everything in it anew.',
                  HINT = 'Drop the schema, or move what is in it to another one.';
    END IF;
END
$$;

COMMENT ON SCHEMA outbox IS 'pg_outbox: an ordered event log with subscribers';
