-- The log: events as they were emitted, and the segments that order them.

CREATE SEQUENCE outbox.event_id_seq AS bigint CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE outbox.event_id_seq IS
    'ids of events; the causal order relies on CACHE 1';

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
COMMENT ON COLUMN outbox.event.type IS 'kind of event';
COMMENT ON COLUMN outbox.event.source IS 'origin: schema.table, or the publisher''s name';
COMMENT ON COLUMN outbox.event.key IS 'ordering key; NULL: no order';
COMMENT ON COLUMN outbox.event.operation IS 'captured: insert, update, delete or truncate';
COMMENT ON COLUMN outbox.event.data IS 'the fact';
COMMENT ON COLUMN outbox.event.old IS 'captured update: former values';
COMMENT ON COLUMN outbox.event.headers IS 'free metadata';
COMMENT ON COLUMN outbox.event.correlation_id IS 'chain of causes that the event belongs to';
COMMENT ON COLUMN outbox.event.causation_id IS 'id of the event whose handler emitted this one';

CREATE TABLE outbox.event_default PARTITION OF outbox.event DEFAULT;
COMMENT ON TABLE outbox.event_default IS 'events whose time lies outside every partition';

-- Each partition has an index on (xid, id) of its own: one on the parent would
-- make a dump's CREATE INDEX meet the index that ATTACH PARTITION has made.
-- No two entries are equal, so deduplication would find none.
CREATE INDEX event_default_xid_id_idx ON outbox.event_default (xid, id)
    WITH (deduplicate_items = off);

-- A new partition must not cover events of the default partition.  This index
-- finds such events at once, while producers wait.
CREATE INDEX event_default_time_idx ON outbox.event_default ("time");

-- The places where the log was written: a new generation begins when the log is
-- in another cluster, database or timeline.
CREATE TABLE outbox.generation (
    generation integer NOT NULL,
    system_identifier bigint NOT NULL,
    timeline integer NOT NULL,
    database oid NOT NULL,
    xid_offset bigint NOT NULL,
    first_id bigint NOT NULL,
    "time" timestamptz NOT NULL,
    first_position bigint NOT NULL,
    CONSTRAINT generation_pkey PRIMARY KEY (generation)
);
COMMENT ON TABLE outbox.generation IS 'the clusters, timelines and databases that the log has been in';
COMMENT ON COLUMN outbox.generation.xid_offset IS
    'added to the cluster''s transaction ids, to keep them above those from before a move';
COMMENT ON COLUMN outbox.generation.first_position IS
    'the first position that was given in it, or later: what stands before is of those before';
COMMENT ON COLUMN outbox.generation.first_id IS 'the first id that was assigned in it';

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
COMMENT ON TABLE outbox.segment IS 'the transactions in the order of the log, with the positions of their events';
COMMENT ON COLUMN outbox.segment.snapshot IS 'events of transactions that had ended in this snapshot have positions';
COMMENT ON COLUMN outbox.segment.highest_id IS
    'highest id in this and all earlier segments: never falls, which allows a binary search';
COMMENT ON COLUMN outbox.segment.latest_time IS
    'latest time of this and all earlier segments: never falls';
COMMENT ON COLUMN outbox.segment.transactions IS
    'in order, per transaction: zigzag varint of the xid''s distance to the one before, varint of its number of events';

-- What transactions of many events, which have no positions yet, say of
-- themselves: who gives positions need not count their events.  Rows of one
-- transaction add up.  A transaction that has none is counted.
CREATE TABLE outbox.tally (
    xid xid8 NOT NULL,
    events bigint NOT NULL,
    min_id bigint NOT NULL,
    max_id bigint NOT NULL,
    min_time timestamptz NOT NULL,
    max_time timestamptz NOT NULL
);
CREATE INDEX tally_xid_idx ON outbox.tally (xid);
COMMENT ON TABLE outbox.tally IS 'how many events large transactions without positions have';
