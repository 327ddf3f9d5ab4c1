-- Rights: nothing to PUBLIC but what a handler of an ordinary role needs.
-- Everything else is granted by the administrator, function by function.

REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA outbox FROM PUBLIC;

GRANT USAGE ON SCHEMA outbox TO PUBLIC;
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
