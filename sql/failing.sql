-- Dead letters: events that a subscription has given up.

CREATE FUNCTION outbox.redrive(subscription text, at_position bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_redrive';
COMMENT ON FUNCTION outbox.redrive(text, bigint) IS
    'makes dead letters due again, one or all, with new attempts, or at once one that awaits a retry; returns how many';

CREATE FUNCTION outbox.discard(subscription text, at_position bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'obx_sql_discard';
COMMENT ON FUNCTION outbox.discard(text, bigint) IS
    'removes dead letters, one or all, or one that awaits a retry; returns how many';
