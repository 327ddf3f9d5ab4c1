-- Subscribing.

CREATE FUNCTION outbox.subscribe(
    name text,
    types text[] DEFAULT '{*}',
    handler text DEFAULT NULL,
    channel text DEFAULT NULL,
    filter text DEFAULT NULL,
    start text DEFAULT 'now',
    ordering text DEFAULT 'key',
    concurrency integer DEFAULT 1,
    batch_size integer DEFAULT 1000,
    max_attempts integer DEFAULT 10,
    backoff interval DEFAULT '1 second',
    max_backoff interval DEFAULT '1 hour',
    timeout interval DEFAULT '30 seconds',
    on_exhausted text DEFAULT 'dead_letter',
    payload text DEFAULT 'reference',
    if_exists text DEFAULT 'error'
) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_subscribe';
COMMENT ON FUNCTION outbox.subscribe(text, text[], text, text, text, text, text, integer, integer, integer,
                                     interval, interval, interval, text, text, text) IS
    'subscribes a function, a channel or consumers that pull to events';

CREATE FUNCTION outbox.alter_subscription(
    name text,
    types text[] DEFAULT NULL,
    handler text DEFAULT NULL,
    channel text DEFAULT NULL,
    filter text DEFAULT NULL,
    ordering text DEFAULT NULL,
    concurrency integer DEFAULT NULL,
    batch_size integer DEFAULT NULL,
    max_attempts integer DEFAULT NULL,
    backoff interval DEFAULT NULL,
    max_backoff interval DEFAULT NULL,
    timeout interval DEFAULT NULL,
    on_exhausted text DEFAULT NULL,
    payload text DEFAULT NULL,
    owner text DEFAULT NULL
) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_alter_subscription';
COMMENT ON FUNCTION outbox.alter_subscription(text, text[], text, text, text, text, integer, integer, integer,
                                              interval, interval, interval, text, text, text) IS
    'changes what a subscription asks for; what is NULL stays as it is';

CREATE FUNCTION outbox.unsubscribe(name text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_unsubscribe';
COMMENT ON FUNCTION outbox.unsubscribe(text) IS 'removes a subscription';

CREATE FUNCTION outbox.pause(name text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_pause';
COMMENT ON FUNCTION outbox.pause(text) IS 'stops delivery to a subscription; its events wait';

CREATE FUNCTION outbox.resume(name text) RETURNS void
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_resume';
COMMENT ON FUNCTION outbox.resume(text) IS 'continues delivery to a paused subscription';

CREATE FUNCTION outbox.seek(
    name text,
    to_position bigint DEFAULT NULL,
    to_time timestamptz DEFAULT NULL
) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_seek';
COMMENT ON FUNCTION outbox.seek(text, bigint, timestamptz) IS
    'makes a subscription continue at another place in the log; returns the next position to deliver';

-- Functions about the current call, for handlers; NULL outside of a handler.

CREATE FUNCTION outbox.current_position() RETURNS bigint
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_current_position';
COMMENT ON FUNCTION outbox.current_position() IS 'position of the handled event';

CREATE FUNCTION outbox.current_attempt() RETURNS integer
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_current_attempt';
COMMENT ON FUNCTION outbox.current_attempt() IS 'number of the attempt, from 1';

CREATE FUNCTION outbox.current_subscription() RETURNS text
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_current_subscription';
COMMENT ON FUNCTION outbox.current_subscription() IS 'name of the subscription that called the handler';

CREATE FUNCTION outbox.is_replay() RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'obx_sql_is_replay';
COMMENT ON FUNCTION outbox.is_replay() IS 'true if the subscription has handled the event before';
