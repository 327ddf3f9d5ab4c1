-- Subscriptions, their progress, and their failures.

CREATE SEQUENCE outbox.subscription_id_seq AS integer;

CREATE TABLE outbox.subscription (
    id integer NOT NULL,
    name text COLLATE "C" NOT NULL,
    owner regrole NOT NULL,
    kind text NOT NULL,
    types text[] NOT NULL,
    handler_schema text,
    handler_name text,
    handler_argument text,
    channel text,
    filter text,
    ordering text NOT NULL,
    concurrency integer NOT NULL,
    batch_size integer NOT NULL,
    max_attempts integer NOT NULL,
    backoff interval NOT NULL,
    max_backoff interval NOT NULL,
    timeout interval NOT NULL,
    on_exhausted text NOT NULL,
    payload text NOT NULL,
    search_path text NOT NULL,
    paused boolean NOT NULL,
    start_snapshot pg_snapshot,
    first_position bigint NOT NULL,
    history bigint[],
    created_at timestamptz NOT NULL,
    emit_type text,
    max_events bigint,
    quiet interval,
    period interval,
    "until" text,
    paused_by text,
    paused_at timestamptz,
    seeks integer NOT NULL,
    delivered_at_seek bigint NOT NULL,
    CONSTRAINT subscription_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_name_key UNIQUE (name)
);
COMMENT ON TABLE outbox.subscription IS 'the properties of each subscription; changes rarely';
COMMENT ON COLUMN outbox.subscription.handler_argument IS
    'event, event[], jsonb; for a reducer jsonb, event. Functions are stored by name, because pg_upgrade refuses regprocedure';
COMMENT ON COLUMN outbox.subscription.start_snapshot IS
    'start => ''now'': events of transactions that had ended in it are not delivered';

COMMENT ON COLUMN outbox.subscription.first_position IS
    'where the lanes began, at subscribe or at the last seek';
COMMENT ON COLUMN outbox.subscription.history IS
    'events that former lanes handled; for each set of lanes: 1 if before a seek, plus 2 if by key; their first position; their number; the position that each lane reached';
COMMENT ON COLUMN outbox.subscription.emit_type IS 'aggregates: type of the emitted events';
COMMENT ON COLUMN outbox.subscription.max_events IS 'aggregates: a window is complete with this number of events';
COMMENT ON COLUMN outbox.subscription.quiet IS 'aggregates: or when no event has come for this time';
COMMENT ON COLUMN outbox.subscription.period IS 'aggregates: or this time after the first event';
COMMENT ON COLUMN outbox.subscription."until" IS 'aggregates: or when this is true for the state';
COMMENT ON COLUMN outbox.subscription.paused_by IS
    'the role that called pause(), by its name at that time; NULL: paused because the database is a copy';

COMMENT ON COLUMN outbox.subscription.seeks IS 'how often seek() has moved it';
COMMENT ON COLUMN outbox.subscription.delivered_at_seek IS 'the number of events that its lanes had handled at the last seek';

-- Insert-only: a row that every batch updates would die of dead versions
-- under a held xmin horizon.  The newest version counts; the unique index is
-- the compare-and-set.
CREATE TABLE outbox.progress (
    subscription integer NOT NULL,
    lane integer NOT NULL,
    version bigint NOT NULL,
    "position" bigint NOT NULL,
    event_id bigint NOT NULL,
    delivered bigint NOT NULL,
    failed bigint NOT NULL,
    "time" timestamptz NOT NULL,
    receipt bigint,
    receiver xid8,
    lease_until timestamptz,
    owed bigint[],
    owed_version bigint,
    owed_count integer,
    owed_gone bigint[],
    handed integer,
    retries bigint[],
    retries_version bigint,
    retries_count integer,
    retries_gone bigint[],
    read_position bigint,
    read_event_id bigint,
    holder text,
    holder_pid integer,
    careful integer,
    careful_left integer,
    due timestamptz,
    settled bigint[],
    CONSTRAINT progress_pkey PRIMARY KEY (subscription, lane, version)
);
ALTER TABLE outbox.progress ALTER owed SET STORAGE EXTERNAL, ALTER retries SET STORAGE EXTERNAL;
COMMENT ON TABLE outbox.progress IS 'the progress of each lane of a subscription; the newest version counts';
COMMENT ON COLUMN outbox.progress."position" IS 'last handled position';
COMMENT ON COLUMN outbox.progress.event_id IS 'id of the event at that position, 0 if unknown: a reader can continue inside a large transaction';
COMMENT ON COLUMN outbox.progress.receipt IS 'pull: the newest hand-out; NULL for none';
COMMENT ON COLUMN outbox.progress.receiver IS 'pull: the transaction that received the hand-out, as the log counts transactions; NULL: all of it was acked, or it was released';
COMMENT ON COLUMN outbox.progress.lease_until IS 'pull: when the hand-out ends; NULL: with its transaction';
COMMENT ON COLUMN outbox.progress.owed IS
    'pull: positions up to read_position that are neither acked nor in outbox.delivery; a negative number ends the range that begins with the number before it; NULL: as in owed_version';
COMMENT ON COLUMN outbox.progress.owed_version IS 'pull: the version that has the list; its last owed_count entries are owed';
COMMENT ON COLUMN outbox.progress.owed_count IS 'pull: the number of owed positions; NULL: none';
COMMENT ON COLUMN outbox.progress.owed_gone IS 'pull: positions of that list that are no longer owed, besides those before its last owed_count';
COMMENT ON COLUMN outbox.progress.handed IS 'pull: how many owed positions, from the first, the hand-out has';
COMMENT ON COLUMN outbox.progress.retries IS 'pull: the rows of outbox.delivery that the hand-out has; NULL: as in retries_version';
COMMENT ON COLUMN outbox.progress.retries_version IS 'pull: the version that has this list';
COMMENT ON COLUMN outbox.progress.retries_count IS 'pull: the number of these rows that are left; NULL: none';
COMMENT ON COLUMN outbox.progress.read_position IS 'pull: last position that was read, if it is not "position"';
COMMENT ON COLUMN outbox.progress.read_event_id IS 'pull: id of the event at read_position';
COMMENT ON COLUMN outbox.progress.retries_gone IS 'pull: rows of that list that it no longer has, besides those before its last retries_count';
COMMENT ON COLUMN outbox.progress.holder IS 'pull: application_name of the session that received the hand-out';
COMMENT ON COLUMN outbox.progress.holder_pid IS 'pull: process of the session that received the hand-out';
COMMENT ON COLUMN outbox.progress.careful IS
    'pull: after a hand-out that ended without an ack or nack, the largest number of events in the next ones; NULL: no limit';
COMMENT ON COLUMN outbox.progress.careful_left IS 'pull: the number of events for which this limit still holds';
COMMENT ON COLUMN outbox.progress.due IS
    'aggregates: no window of the lane is due earlier; NULL: no window is due by time';
COMMENT ON COLUMN outbox.progress.settled IS
    'the rows of outbox.delivery that this version ended, in pairs: the position; the number of attempts, 0 if the filter left it out, -1 if it was discarded';

CREATE TABLE outbox.delivery (
    subscription integer NOT NULL,
    lane integer NOT NULL,
    "position" bigint NOT NULL,
    state text NOT NULL,
    open boolean NOT NULL,
    key_hash bigint,
    xid xid8 NOT NULL,
    event_id bigint NOT NULL,
    attempts integer NOT NULL,
    next_at timestamptz,
    sqlstate text,
    error text,
    error_detail text,
    error_context text,
    failed_at timestamptz,
    history jsonb,
    CONSTRAINT delivery_pkey PRIMARY KEY (subscription, "position")
);
CREATE INDEX delivery_open_idx ON outbox.delivery (subscription, lane, open, "position");
CREATE INDEX delivery_key_idx ON outbox.delivery (subscription, lane, open, key_hash, "position");
COMMENT ON TABLE outbox.delivery IS
    'exceptions only: events that await a retry, are parked behind their key, or are dead letters';
COMMENT ON COLUMN outbox.delivery.state IS 'retry, parked or dead';
COMMENT ON COLUMN outbox.delivery.open IS
    'true if its key waits for it; false only for dead letters that do not block';
COMMENT ON COLUMN outbox.delivery.history IS 'the first and the last failed attempts; NULL before the first one';
COMMENT ON COLUMN outbox.delivery.key_hash IS 'hash of the ordering key; NULL for an event without one';

CREATE SEQUENCE outbox.receipt_seq AS bigint;
COMMENT ON SEQUENCE outbox.receipt_seq IS 'receipts of hand-outs to pull consumers';

-- The open windows of aggregates.  Insert-only like progress: a batch inserts one
-- version of each window that it changed, and the newest version counts.  A
-- version that closes a window is deleted when no snapshot can find the earlier
-- versions any more.
CREATE TABLE outbox.aggregate_window (
    subscription integer NOT NULL,
    key text COLLATE "C",
    version bigint NOT NULL,
    due timestamptz,
    open boolean NOT NULL,
    events bigint NOT NULL,
    since timestamptz NOT NULL,
    latest timestamptz NOT NULL,
    state jsonb,
    correlation_id text,
    traceparent text,
    last_position bigint NOT NULL,
    last_event_id bigint NOT NULL,
    last_causation_id bigint,
    causes bigint[]
);
CREATE INDEX aggregate_window_key_idx ON outbox.aggregate_window (subscription, key, version);
CREATE INDEX aggregate_window_due_idx ON outbox.aggregate_window (subscription, due);
COMMENT ON TABLE outbox.aggregate_window IS
    'aggregates: the state of each key''s window; the newest version counts';
COMMENT ON COLUMN outbox.aggregate_window.key IS 'key of the events; NULL: events without a key';
COMMENT ON COLUMN outbox.aggregate_window.version IS 'the version of the batch''s progress';
COMMENT ON COLUMN outbox.aggregate_window.due IS 'when the window ends by time; NULL: never';
COMMENT ON COLUMN outbox.aggregate_window.open IS 'false: the key has no window now';
COMMENT ON COLUMN outbox.aggregate_window.since IS 'when its first event got its position';
COMMENT ON COLUMN outbox.aggregate_window.latest IS 'when its latest event got its position';
COMMENT ON COLUMN outbox.aggregate_window.correlation_id IS 'of the first event';
COMMENT ON COLUMN outbox.aggregate_window.traceparent IS 'of the first event''s headers';
COMMENT ON COLUMN outbox.aggregate_window.causes IS 'ids of the events, at most the first 1,000';

-- The last failure of each subscription, for outbox.status.  Each failure deletes
-- the row of the one before and inserts its own: see outbox.progress.
CREATE TABLE outbox.failure (
    subscription integer NOT NULL,
    version bigint NOT NULL,
    "position" bigint,
    error text NOT NULL,
    failed_at timestamptz NOT NULL,
    CONSTRAINT failure_pkey PRIMARY KEY (subscription, version)
);
COMMENT ON TABLE outbox.failure IS 'the last failure of each subscription';
