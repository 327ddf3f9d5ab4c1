-- The tables whose rows are dumped.  Partitions of the log that are made later are
-- plain tables and need no mention.

SELECT pg_catalog.pg_extension_config_dump('outbox.event_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.event_default', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.generation', '');
SELECT pg_catalog.pg_extension_config_dump('outbox.segment', '');
-- restored without its events it would be wrong, and without it they are counted
SELECT pg_catalog.pg_extension_config_dump('outbox.tally', 'WHERE false');
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
