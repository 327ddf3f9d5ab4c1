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
    'emits an event in the current transaction, or schedules it; returns its id, or NULL while it has none';

CREATE FUNCTION outbox.publish_many(events jsonb) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_publish_many';
COMMENT ON FUNCTION outbox.publish_many(jsonb) IS
    'emits an array of events; returns how many';

CREATE FUNCTION outbox.try_publish(
    type text,
    data jsonb DEFAULT '{}',
    key text DEFAULT NULL,
    source text DEFAULT NULL,
    headers jsonb DEFAULT '{}',
    idempotency_key text DEFAULT NULL,
    deliver_at timestamptz DEFAULT NULL,
    OUT outcome text,
    OUT event_id bigint,
    OUT scheduled_id bigint
) RETURNS record
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_try_publish';
COMMENT ON FUNCTION outbox.try_publish(text, jsonb, text, text, jsonb, text, timestamptz) IS
    'like publish(); also returns whether the event was emitted, scheduled, or is a duplicate, and of which event';

CREATE FUNCTION outbox.try_publish_many(events jsonb)
RETURNS TABLE (number integer, outcome text, event_id bigint, scheduled_id bigint)
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
    AS 'MODULE_PATHNAME', 'obx_sql_try_publish_many';
COMMENT ON FUNCTION outbox.try_publish_many(jsonb) IS
    'like publish_many(); returns the outcome of each element';

-- Scheduled events.

CREATE FUNCTION outbox.cancel_scheduled(id bigint) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_cancel_scheduled';
COMMENT ON FUNCTION outbox.cancel_scheduled(bigint) IS
    'cancels an event of outbox.scheduled; false if it is not there';

CREATE FUNCTION outbox.cancel_scheduled(idempotency_key text) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_cancel_scheduled_key';
COMMENT ON FUNCTION outbox.cancel_scheduled(text) IS
    'cancels the event of outbox.scheduled that has the key; false if none has';

CREATE FUNCTION outbox.reschedule(idempotency_key text, deliver_at timestamptz) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_reschedule';
COMMENT ON FUNCTION outbox.reschedule(text, timestamptz) IS
    'gives the event of outbox.scheduled that has the key another time; false if none has';

CREATE VIEW outbox.scheduled AS
SELECT s.id, s.deliver_at, s.type, s.key, s.source, s.data, s.headers, s.correlation_id,
       s.causation_id, s.idempotency_key, s.scheduled_at
FROM outbox.schedule s;
COMMENT ON VIEW outbox.scheduled IS 'events that enter the log when they are due';
COMMENT ON COLUMN outbox.scheduled.id IS
    'for cancel_scheduled(); the event gets another id when it enters the log';
COMMENT ON COLUMN outbox.scheduled.deliver_at IS 'when it is due';
COMMENT ON COLUMN outbox.scheduled.correlation_id IS 'NULL: the event starts one, with its own id';
COMMENT ON COLUMN outbox.scheduled.scheduled_at IS 'when it was published';
