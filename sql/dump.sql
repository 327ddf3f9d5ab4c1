-- What a dump takes along.  Partitions of the log that are made later are
-- plain tables and need no mention.

SELECT pg_catalog.pg_extension_config_dump('outbox.event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_default', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.generation', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.segment', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.subscription_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.progress', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.receipt_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.delivery', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.aggregate_window', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.failure', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.registered_type', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.schema_version', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.schedule_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.schedule', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.seen_turn', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.seen_0', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.seen_1', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.seen_2', '');

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
