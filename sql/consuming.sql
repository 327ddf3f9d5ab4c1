-- Reading the log, without a subscription.

CREATE FUNCTION outbox.read(
    after bigint DEFAULT 0,
    max_events integer DEFAULT 1000,
    types text[] DEFAULT '{*}',
    strict boolean DEFAULT false
) RETURNS SETOF outbox.positioned_event
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1000
    AS 'MODULE_PATHNAME', 'obx_sql_read';
COMMENT ON FUNCTION outbox.read(bigint, integer, text[], boolean) IS
    'events after a position, in position order';

CREATE FUNCTION outbox.oldest() RETURNS bigint
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_oldest';
COMMENT ON FUNCTION outbox.oldest() IS 'the oldest position that is kept; NULL if there is none';

CREATE FUNCTION outbox.head() RETURNS bigint
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_head';
COMMENT ON FUNCTION outbox.head() IS 'the last assigned position; 0 if there never was one';

CREATE FUNCTION outbox.position_of(event_id bigint) RETURNS bigint
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_position_of';
COMMENT ON FUNCTION outbox.position_of(bigint) IS
    'the position of an event; NULL while it has none, and for an unknown id';

CREATE FUNCTION outbox.generations()
RETURNS TABLE (generation integer, first_id bigint, first_position bigint, "time" timestamptz)
    LANGUAGE sql STABLE SECURITY DEFINER PARALLEL UNSAFE ROWS 10
    SET search_path = pg_catalog, pg_temp
    AS $$
    SELECT g.generation, g.first_id, g.first_position, g."time"
    FROM outbox.generation g
    WHERE g.generation OPERATOR(pg_catalog.>) 0
    ORDER BY g.generation
$$;
COMMENT ON FUNCTION outbox.generations() IS
    'where each generation of the log began: positions from there on may be of other events than before a failover';

-- Pulling, with a subscription that has neither a handler nor a channel.

CREATE FUNCTION outbox.receive(
    subscription text,
    max_events integer DEFAULT 100,
    lease interval DEFAULT NULL,
    receipt bigint DEFAULT NULL
) RETURNS SETOF outbox.received_event
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 100
    AS 'MODULE_PATHNAME', 'obx_sql_receive';
COMMENT ON FUNCTION outbox.receive(text, integer, interval, bigint) IS
    'hands out events of a pull subscription, until the transaction or the lease ends';

CREATE PROCEDURE outbox.await(
    subscription text,
    timeout interval DEFAULT '20 seconds',
    INOUT ready boolean DEFAULT NULL
)
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'obx_sql_await';
COMMENT ON PROCEDURE outbox.await(text, interval, boolean) IS
    'returns as soon as receive() would hand something out, or at the timeout';

CREATE FUNCTION outbox.extend(subscription text, receipt bigint, lease interval) RETURNS timestamptz
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_extend';
COMMENT ON FUNCTION outbox.extend(text, bigint, interval) IS
    'sets the end of a hand-out''s lease to this long after now; returns that time';

CREATE FUNCTION outbox.release(subscription text, receipt bigint) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_release';
COMMENT ON FUNCTION outbox.release(text, bigint) IS
    'gives back the rest of a hand-out; no attempt is used up';

CREATE FUNCTION outbox.ack(
    subscription text,
    receipt bigint,
    up_to bigint DEFAULT NULL,
    positions bigint[] DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_ack';
COMMENT ON FUNCTION outbox.ack(text, bigint, bigint, bigint[]) IS
    'confirms that events of a hand-out are handled: all, those up to and including a position, or those listed';

CREATE FUNCTION outbox.nack(
    subscription text,
    receipt bigint,
    at_position bigint,
    error text DEFAULT NULL,
    delay interval DEFAULT NULL,
    final boolean DEFAULT false,
    positions bigint[] DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_nack';
COMMENT ON FUNCTION outbox.nack(text, bigint, bigint, text, interval, boolean, bigint[]) IS
    'reports that events of a hand-out failed: they are handed out again later, or become dead letters';

-- For consumers outside of the database.

CREATE FUNCTION outbox.to_cloudevent(event outbox.event) RETURNS jsonb
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_to_cloudevent';
COMMENT ON FUNCTION outbox.to_cloudevent(outbox.event) IS
    'an event in the JSON format of CloudEvents 1.0';

CREATE FUNCTION outbox.to_cloudevent(event outbox.positioned_event) RETURNS jsonb
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_positioned_to_cloudevent';
COMMENT ON FUNCTION outbox.to_cloudevent(outbox.positioned_event) IS
    'a row of outbox.read() in the JSON format of CloudEvents 1.0';

CREATE FUNCTION outbox.to_cloudevent(event outbox.received_event) RETURNS jsonb
    LANGUAGE c STABLE CALLED ON NULL INPUT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_positioned_to_cloudevent';
COMMENT ON FUNCTION outbox.to_cloudevent(outbox.received_event) IS
    'a row of outbox.receive() in the JSON format of CloudEvents 1.0';

CREATE VIEW outbox.debezium_outbox AS
SELECT coalesce((SELECT max(g.generation) FROM outbox.generation g WHERE g.first_id <= e.id), 1)
           || '-' || e.id AS id,
       e.source AS aggregatetype,
       e.key AS aggregateid,
       e.type,
       e.data AS payload,
       e."time" AS "timestamp",
       outbox.position_of(e.id) AS "position"
FROM outbox.event e;
COMMENT ON VIEW outbox.debezium_outbox IS
    'the log in the layout of the table that Debezium''s outbox event router reads; Debezium itself reads outbox.event';
COMMENT ON COLUMN outbox.debezium_outbox.id IS 'generation-id, as in to_cloudevent()';
COMMENT ON COLUMN outbox.debezium_outbox.aggregatetype IS 'source of the event';
COMMENT ON COLUMN outbox.debezium_outbox.aggregateid IS 'key of the event';
COMMENT ON COLUMN outbox.debezium_outbox.payload IS 'data of the event';
COMMENT ON COLUMN outbox.debezium_outbox."position" IS
    'position of the event; NULL while it has none. Needs EXECUTE on outbox.position_of()';

-- The inbox: for consumers that may get an event more than once.

CREATE FUNCTION outbox.once(consumer text, event_id bigint) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_once';
COMMENT ON FUNCTION outbox.once(text, bigint) IS
    'true for the first call with a consumer and an event, in the caller''s transaction';
