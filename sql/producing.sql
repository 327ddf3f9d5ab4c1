-- Producing events.

CREATE FUNCTION outbox.publish(
    type text,
    data jsonb DEFAULT '{}',
    key text DEFAULT NULL,
    source text DEFAULT NULL,
    headers jsonb DEFAULT '{}',
    idempotency_key text DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL
) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_publish';
COMMENT ON FUNCTION outbox.publish(text, jsonb, text, text, jsonb, text, timestamptz) IS
    'emits an event in the current transaction; returns its id';

CREATE FUNCTION outbox.publish_many(events jsonb) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_publish_many';
COMMENT ON FUNCTION outbox.publish_many(jsonb) IS
    'emits an array of events; returns how many';
