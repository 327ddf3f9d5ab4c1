-- Who wants which events, how far each has come, and what went wrong.

CREATE SEQUENCE outbox.subscription_id_seq AS integer;

CREATE TABLE outbox.subscription (
    id integer NOT NULL,
    name text NOT NULL,
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
    CONSTRAINT subscription_pkey PRIMARY KEY (id),
    CONSTRAINT subscription_name_key UNIQUE (name)
);
COMMENT ON TABLE outbox.subscription IS 'what was asked for; changes rarely';
COMMENT ON COLUMN outbox.subscription.handler_argument IS
    'event, event[] or jsonb: handlers are kept by name, for pg_upgrade refuses regprocedure';
COMMENT ON COLUMN outbox.subscription.start_snapshot IS
    'start => ''now'': events of transactions that had ended in it are not delivered';

COMMENT ON COLUMN outbox.subscription.first_position IS
    'where the lanes began, at subscribe or by the last seek';
COMMENT ON COLUMN outbox.subscription.history IS
    'what former lanes dealt with; for each: 1 if before a seek, plus 2 if by key, their first position, their number, what each passed';

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
    handed integer,
    retries bigint[],
    read_position bigint,
    read_event_id bigint,
    CONSTRAINT progress_pkey PRIMARY KEY (subscription, lane, version)
);
COMMENT ON TABLE outbox.progress IS 'how far each lane of a subscription has come; the newest version counts';
COMMENT ON COLUMN outbox.progress."position" IS 'last position dealt with';
COMMENT ON COLUMN outbox.progress.event_id IS 'id of the event at that position, 0 if unknown: lets a reader resume inside a large transaction';
COMMENT ON COLUMN outbox.progress.receipt IS 'pull: the newest hand-out; NULL for none, or acked to its end';
COMMENT ON COLUMN outbox.progress.receiver IS 'pull: transaction that received it';
COMMENT ON COLUMN outbox.progress.lease_until IS 'pull: when it runs out; NULL: when its transaction ends';
COMMENT ON COLUMN outbox.progress.owed IS
    'pull: positions up to read_position that are neither acked nor in outbox.delivery';
COMMENT ON COLUMN outbox.progress.handed IS 'pull: how many of those owed, from the first, the hand-out has';
COMMENT ON COLUMN outbox.progress.retries IS 'pull: or, which rows of outbox.delivery it has';
COMMENT ON COLUMN outbox.progress.read_position IS 'pull: how far the log was read, where that is not "position"';
COMMENT ON COLUMN outbox.progress.read_event_id IS 'pull: id of the event there';

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

-- The last failure of each subscription, for outbox.status.
CREATE TABLE outbox.failure (
    subscription integer NOT NULL,
    "position" bigint,
    error text NOT NULL,
    failed_at timestamptz NOT NULL,
    CONSTRAINT failure_pkey PRIMARY KEY (subscription)
);
COMMENT ON TABLE outbox.failure IS 'the last failure of each subscription';
