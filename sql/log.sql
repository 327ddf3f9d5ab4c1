-- The log: events as they were emitted, and the segments that order them.

CREATE SEQUENCE outbox.event_id_seq AS bigint CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE outbox.event_id_seq IS
    'ids of events; CACHE 1 is what the causal order rests on';

CREATE TABLE outbox.event (
    id bigint NOT NULL,
    xid xid8 NOT NULL,
    "time" timestamptz NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    key text,
    operation text,
    data jsonb NOT NULL,
    old jsonb,
    headers jsonb NOT NULL,
    correlation_id text,
    causation_id bigint
) PARTITION BY RANGE ("time");

COMMENT ON TABLE outbox.event IS 'the log: one immutable row per event';
COMMENT ON COLUMN outbox.event.id IS 'unique; rises within a transaction in the order of emission';
COMMENT ON COLUMN outbox.event.xid IS 'top-level transaction that emitted the event';
COMMENT ON COLUMN outbox.event."time" IS 'clock when the event was emitted';
COMMENT ON COLUMN outbox.event.type IS 'what happened';
COMMENT ON COLUMN outbox.event.source IS 'who says so: schema.table, or the publisher''s name';
COMMENT ON COLUMN outbox.event.key IS 'ordering key; NULL asks for no order';
COMMENT ON COLUMN outbox.event.operation IS 'captured: insert, update, delete or truncate';
COMMENT ON COLUMN outbox.event.data IS 'the fact';
COMMENT ON COLUMN outbox.event.old IS 'captured update: former values';
COMMENT ON COLUMN outbox.event.headers IS 'free metadata';
COMMENT ON COLUMN outbox.event.correlation_id IS 'business transaction that the event belongs to';
COMMENT ON COLUMN outbox.event.causation_id IS 'id of the event whose handler emitted this one';

CREATE TABLE outbox.event_default PARTITION OF outbox.event DEFAULT;
COMMENT ON TABLE outbox.event_default IS 'events whose time lies outside every partition';

-- Each partition has an index on (xid, id) of its own: one on the parent would
-- make a dump's CREATE INDEX meet the index that ATTACH PARTITION has made.
-- No two entries are equal, so looking for equal ones would be in vain.
CREATE INDEX event_default_xid_id_idx ON outbox.event_default (xid, id)
    WITH (deduplicate_items = off);

-- A partition cannot be made under events of the default one: whether there
-- are any must be found at once, while producers wait.
CREATE INDEX event_default_time_idx ON outbox.event_default ("time");

-- Where the log was written to: a new generation begins when the database finds
-- itself elsewhere.
CREATE TABLE outbox.generation (
    generation integer NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    database oid NOT NULL,
    xid_offset bigint NOT NULL,
    first_id bigint NOT NULL,
    "time" timestamptz NOT NULL,
    CONSTRAINT generation_pkey PRIMARY KEY (generation)
);
COMMENT ON TABLE outbox.generation IS 'in which cluster, on which timeline and in which database the log went on';
COMMENT ON COLUMN outbox.generation.xid_offset IS
    'what the log adds to the cluster''s transaction ids, to keep them above those from before a move';
COMMENT ON COLUMN outbox.generation.first_id IS 'ids of events from here on were drawn in it';

-- One row per difference of two snapshots that holds events.  "transactions"
-- lists the transactions in order, each with its number of events, so that a
-- position resolves to (xid, ordinal) without any snapshot arithmetic.
CREATE TABLE outbox.segment (
    first_position bigint NOT NULL,
    events bigint NOT NULL,
    "time" timestamptz NOT NULL,
    snapshot pg_snapshot NOT NULL,
    min_id bigint,
    max_id bigint,
    min_time timestamptz,
    max_time timestamptz,
    highest_id bigint NOT NULL,
    latest_time timestamptz NOT NULL,
    transactions bytea NOT NULL,
    CONSTRAINT segment_pkey PRIMARY KEY (first_position)
);
COMMENT ON TABLE outbox.segment IS 'which positions the events of which transactions take';
COMMENT ON COLUMN outbox.segment.snapshot IS 'snapshot up to which events have positions';
COMMENT ON COLUMN outbox.segment.highest_id IS
    'of its events and those of all before it: never falls, so that an id can be searched for by halves';
COMMENT ON COLUMN outbox.segment.latest_time IS
    'of its own time and those of all before it; likewise';
COMMENT ON COLUMN outbox.segment.transactions IS
    'in order, per transaction: zigzag varint of the xid''s distance to the one before, varint of its number of events';
