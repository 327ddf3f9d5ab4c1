-- Who wants which events, how far each has come, and what went wrong.

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
    CONSTRAINT subscription_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_name_key UNIQUE (name)
);
COMMENT ON TABLE outbox.subscription IS 'what was asked for; changes rarely';
COMMENT ON COLUMN outbox.subscription.handler_argument IS
    'event, event[], jsonb, or of a reducer jsonb, event: functions are kept by name, for pg_upgrade refuses regprocedure';
COMMENT ON COLUMN outbox.subscription.start_snapshot IS
    'start => ''now'': events of transactions that had ended in it are not delivered';

COMMENT ON COLUMN outbox.subscription.first_position IS
    'where the lanes began, at subscribe or by the last seek';
COMMENT ON COLUMN outbox.subscription.history IS
    'what former lanes dealt with; for each: 1 if before a seek, plus 2 if by key, their first position, their number, what each passed';
COMMENT ON COLUMN outbox.subscription.emit_type IS 'aggregates: type of the events that it emits';
COMMENT ON COLUMN outbox.subscription.max_events IS 'aggregates: a window is complete with so many events';
COMMENT ON COLUMN outbox.subscription.quiet IS 'aggregates: or when none has come for so long';
COMMENT ON COLUMN outbox.subscription.period IS 'aggregates: or so long after the first one';
COMMENT ON COLUMN outbox.subscription."until" IS 'aggregates: or when this holds of the state';
COMMENT ON COLUMN outbox.subscription.paused_by IS
    'the role that called pause(), by name as it was; NULL: paused because the database is a copy';

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
COMMENT ON TABLE outbox.progress IS 'how far each lane of a subscription has come; the newest version counts';
COMMENT ON COLUMN outbox.progress."position" IS 'last position dealt with';
COMMENT ON COLUMN outbox.progress.event_id IS 'id of the event at that position, 0 if unknown: lets a reader resume inside a large transaction';
COMMENT ON COLUMN outbox.progress.receipt IS 'pull: the newest hand-out; NULL for none';
COMMENT ON COLUMN outbox.progress.receiver IS 'pull: transaction that received it; NULL: it was acked to its end, or released';
COMMENT ON COLUMN outbox.progress.lease_until IS 'pull: when it runs out; NULL: when its transaction ends';
COMMENT ON COLUMN outbox.progress.owed IS
    'pull: positions up to read_position that are neither acked nor in outbox.delivery, where a negative number ends a range that the one before it begins; NULL: as in owed_version';
COMMENT ON COLUMN outbox.progress.owed_version IS 'pull: the version whose list it is that the last owed_count of are owed';
COMMENT ON COLUMN outbox.progress.owed_count IS 'pull: how many are owed; NULL: none';
COMMENT ON COLUMN outbox.progress.owed_gone IS 'pull: which ones of that list are not, besides those before';
COMMENT ON COLUMN outbox.progress.handed IS 'pull: how many of those owed, from the first, the hand-out has';
COMMENT ON COLUMN outbox.progress.retries IS 'pull: and which rows of outbox.delivery it has; likewise';
COMMENT ON COLUMN outbox.progress.retries_version IS 'pull: the version whose list of them it is';
COMMENT ON COLUMN outbox.progress.retries_count IS 'pull: how many of them are left; NULL: none';
COMMENT ON COLUMN outbox.progress.read_position IS 'pull: how far the log was read, where that is not "position"';
COMMENT ON COLUMN outbox.progress.read_event_id IS 'pull: id of the event there';
COMMENT ON COLUMN outbox.progress.retries_gone IS 'pull: which ones of that list are not, besides those before';
COMMENT ON COLUMN outbox.progress.holder IS 'pull: application_name of the session that received it';
COMMENT ON COLUMN outbox.progress.holder_pid IS 'pull: its process';
COMMENT ON COLUMN outbox.progress.careful IS
    'pull: a hand-out has ended without a word: the next ones have so many events at most; NULL: no bound';
COMMENT ON COLUMN outbox.progress.careful_left IS 'pull: until so many are dealt with';
COMMENT ON COLUMN outbox.progress.due IS
    'aggregates: no window of the lane is due before; NULL: none is';
COMMENT ON COLUMN outbox.progress.settled IS
    'whose rows in outbox.delivery this version has ended, in pairs: the position; after how many attempts it was delivered, 0: the filter left it out, -1: it was discarded';

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
    CONSTRAINT delivery_pkey PRIMARY KEY (subscription, "position")
);
CREATE INDEX delivery_open_idx ON outbox.delivery (subscription, lane, open, "position");
COMMENT ON TABLE outbox.delivery IS
    'exceptions only: events that await a retry, are parked behind their key, or are dead letters';
COMMENT ON COLUMN outbox.delivery.state IS 'retry, parked or dead';
COMMENT ON COLUMN outbox.delivery.open IS
    'its key waits for it: true but for dead letters that do not block';
COMMENT ON COLUMN outbox.delivery.key_hash IS 'hash of the ordering key; NULL for an event without one';

CREATE SEQUENCE outbox.receipt_seq AS bigint;
COMMENT ON SEQUENCE outbox.receipt_seq IS 'receipts of hand-outs to pull consumers';

-- What aggregates have folded and not emitted yet.  Insert-only like progress:
-- a batch inserts one version of each window that it changed, the newest one
-- counts, and one that says that the window is closed goes when no snapshot can
-- find those before it any more.
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
    'aggregates: what was folded and not emitted yet, by key; the newest version counts';
COMMENT ON COLUMN outbox.aggregate_window.key IS 'key of the events; NULL: those that have none';
COMMENT ON COLUMN outbox.aggregate_window.version IS 'that of the progress of the batch';
COMMENT ON COLUMN outbox.aggregate_window.due IS 'when it is complete by time; NULL: never';
COMMENT ON COLUMN outbox.aggregate_window.open IS 'false: the key has no window now';
COMMENT ON COLUMN outbox.aggregate_window.since IS 'when its first event got its position';
COMMENT ON COLUMN outbox.aggregate_window.latest IS 'when its latest event did';
COMMENT ON COLUMN outbox.aggregate_window.correlation_id IS 'of the first event';
COMMENT ON COLUMN outbox.aggregate_window.traceparent IS 'of the first event''s headers';
COMMENT ON COLUMN outbox.aggregate_window.causes IS 'ids of the events, the first 1,000';

-- The last failure of each subscription, for outbox.status.
CREATE TABLE outbox.failure (
    subscription integer NOT NULL,
    "position" bigint,
    error text NOT NULL,
    failed_at timestamptz NOT NULL,
    CONSTRAINT failure_pkey PRIMARY KEY (subscription)
);
COMMENT ON TABLE outbox.failure IS 'the last failure of each subscription';
