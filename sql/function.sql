-- Functions that the tables themselves need.

CREATE FUNCTION outbox.refuse_change() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_refuse_change';
COMMENT ON FUNCTION outbox.refuse_change() IS 'trigger function: refuses changes to the log';

CREATE FUNCTION outbox.refuse_trigger() RETURNS event_trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_refuse_trigger';
COMMENT ON FUNCTION outbox.refuse_trigger() IS 'event trigger function: refuses other triggers on the tables of the extension';

CREATE FUNCTION outbox.types_changed() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_types_changed';
COMMENT ON FUNCTION outbox.types_changed() IS 'trigger function: makes every session read the registered types again';
