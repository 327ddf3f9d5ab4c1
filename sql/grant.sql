-- Rights: PUBLIC gets only those that a handler of an ordinary role needs.  The
-- administrator grants all others, function by function.

REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA outbox FROM PUBLIC;

-- A column of a table's row type would keep it from being dropped.  That of
-- outbox.event is the handlers' argument.  REVOKE would note initial rights,
-- and pg_dump warns of those on row types, which it does not know.
UPDATE pg_catalog.pg_type t
SET typacl = ARRAY[pg_catalog.makeaclitem(t.typowner, t.typowner, 'USAGE', false)]
FROM pg_catalog.pg_class c
WHERE c.reltype = t.oid AND c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'c');

-- The role that creates the extension may have default privileges that give
-- roles more rights than this page.
DO $$
DECLARE
    command text;
BEGIN
    FOR command IN
        SELECT pg_catalog.format('REVOKE ALL ON %s outbox.%I FROM %I',
                                 CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname,
                                 pg_catalog.pg_get_userbyid(a.grantee))
        FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
        WHERE c.relnamespace = 'outbox'::regnamespace AND a.grantee NOT IN (0, c.relowner)
        UNION
        SELECT pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM %I', f.oid::regprocedure,
                                 pg_catalog.pg_get_userbyid(a.grantee))
        FROM pg_catalog.pg_proc f, pg_catalog.aclexplode(f.proacl) a
        WHERE f.pronamespace = 'outbox'::regnamespace AND a.grantee NOT IN (0, f.proowner)
    LOOP
        EXECUTE command;
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA outbox TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.worker_obstacle(integer, regrole, integer) TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.handed_out(integer, integer) TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.current_position() TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.current_attempt() TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.current_subscription() TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.is_replay() TO PUBLIC;

-- pg_dump of PostgreSQL 13 and 14 loads the data of a partition only after a look
-- at its parents, and crashes where it has not read them: for a table whose rows
-- it dumps, but nothing else.  So there the default partition has a right that
-- the extension did not give it, which makes pg_dump look at it like at any
-- other table.  The owner misses nothing: TRUNCATE of the log is refused anyway.
DO $$
BEGIN
    IF pg_catalog.current_setting('server_version_num')::pg_catalog.int4 OPERATOR(pg_catalog.<) 150000 THEN
        EXECUTE pg_catalog.format('REVOKE TRUNCATE ON outbox.event_default FROM %I', CURRENT_USER);
        DELETE FROM pg_catalog.pg_init_privs
        WHERE objoid OPERATOR(pg_catalog.=) 'outbox.event_default'::pg_catalog.regclass::pg_catalog.oid;
    END IF;
END $$;
