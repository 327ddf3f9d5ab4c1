-- The types of rows that functions return.  An update gives them attributes by
-- ALTER TYPE: no function can be replaced by one that returns another type.

CREATE TYPE outbox.positioned_event AS (
    "position" bigint,
    id bigint,
    xid xid8,
    "time" timestamptz,
    type text,
    source text,
    key text,
    operation text,
    data jsonb,
    old jsonb,
    headers jsonb,
    correlation_id text,
    causation_id bigint
);
COMMENT ON TYPE outbox.positioned_event IS 'an event with its position, as outbox.read() returns it';

CREATE TYPE outbox.received_event AS (
    "position" bigint,
    id bigint,
    xid xid8,
    "time" timestamptz,
    type text,
    source text,
    key text,
    operation text,
    data jsonb,
    old jsonb,
    headers jsonb,
    correlation_id text,
    causation_id bigint,
    receipt bigint,
    attempt integer,
    is_replay boolean
);
COMMENT ON TYPE outbox.received_event IS 'an event that outbox.receive() hands out';
