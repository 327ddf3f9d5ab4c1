-- Running without workers, and housekeeping.

CREATE PROCEDURE outbox.run(max_events bigint DEFAULT NULL)
    LANGUAGE c
    AS 'MODULE_PATHNAME', 'obx_sql_run';
COMMENT ON PROCEDURE outbox.run(bigint) IS
    'assigns positions and serves the caller''s subscriptions, in the foreground, until nothing is due';

CREATE FUNCTION outbox.wait(subscription text DEFAULT NULL, timeout interval DEFAULT '10 seconds') RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_wait';
COMMENT ON FUNCTION outbox.wait(text, interval) IS
    'waits until all events committed before the call are handled; false after the timeout';

CREATE FUNCTION outbox.apply_retention() RETURNS integer
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_apply_retention';
COMMENT ON FUNCTION outbox.apply_retention() IS 'drops the partitions that retention allows to drop; returns how many';

CREATE FUNCTION outbox.generation() RETURNS integer
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_generation';
COMMENT ON FUNCTION outbox.generation() IS
    'counts the moves of the log to another cluster, timeline or database; ids are unique within one';
