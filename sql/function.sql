-- Functions that the tables themselves need.

CREATE FUNCTION outbox.refuse_change() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_refuse_change';
COMMENT ON FUNCTION outbox.refuse_change() IS 'trigger function: the log is immutable';

CREATE FUNCTION outbox.types_changed() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_types_changed';
COMMENT ON FUNCTION outbox.types_changed() IS 'trigger function: every session reads the registered types anew';
