-- Refuses a schema that someone else prepared: its owner could replace every
-- object in it.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_namespace n
               WHERE n.nspname OPERATOR(pg_catalog.=) 'outbox'
                 AND n.nspowner OPERATOR(pg_catalog.<>)
                     (SELECT r.oid FROM pg_catalog.pg_roles r
                      WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)) THEN
        RAISE EXCEPTION 'schema "outbox" belongs to another role'
            USING ERRCODE = 'duplicate_schema',
                  HINT = 'Drop the schema, or give it to the role that creates the extension.';
    END IF;
END
$$;

COMMENT ON SCHEMA outbox IS 'pg_outbox: an ordered event log with subscribers';
