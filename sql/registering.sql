-- Registering types of events.

CREATE FUNCTION outbox.register_type(
    type text,
    contract text DEFAULT NULL,
    description text DEFAULT NULL
) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_register_type';
COMMENT ON FUNCTION outbox.register_type(text, text, text) IS
    'registers or replaces an event type; returns how many of its newest events breach the contract';

CREATE FUNCTION outbox.unregister_type(type text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_unregister_type';
COMMENT ON FUNCTION outbox.unregister_type(text) IS 'removes an event type and its contract; its events stay';

CREATE VIEW outbox.event_type AS
SELECT t.type,
       t.contract,
       t.description,
       pg_catalog.pg_get_userbyid(t.registered_by) AS registered_by,
       t.registered_at
FROM outbox.registered_type t;
COMMENT ON VIEW outbox.event_type IS 'the registered event types';
COMMENT ON COLUMN outbox.event_type.contract IS 'boolean expression over data that must be true; NULL for none';
COMMENT ON COLUMN outbox.event_type.registered_by IS 'the contract runs with the rights of this role';
