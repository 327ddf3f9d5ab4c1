-- Events that are not due yet.  CACHE 1, because events of equal times enter in
-- the order of publishing.

CREATE SEQUENCE outbox.schedule_id_seq AS bigint CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE outbox.schedule_id_seq IS 'ids of scheduled events, until these enter the log';

CREATE TABLE outbox.schedule (
    id bigint NOT NULL,
    deliver_at timestamptz NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    key text,
    data jsonb NOT NULL,
    headers jsonb NOT NULL,
    correlation_id text,
    causation_id bigint,
    idempotency_key text COLLATE "C",
    scheduled_at timestamptz NOT NULL,
    CONSTRAINT schedule_pkey PRIMARY KEY (id)
);
CREATE INDEX schedule_due_idx ON outbox.schedule (deliver_at, id);
CREATE INDEX schedule_key_idx ON outbox.schedule (idempotency_key);
COMMENT ON TABLE outbox.schedule IS 'events that enter the log when they are due';
COMMENT ON COLUMN outbox.schedule.correlation_id IS
    'of the publisher; NULL: the event starts one, with its own id';
COMMENT ON COLUMN outbox.schedule.idempotency_key IS
    'taken while this row exists; after the event has entered the log, outbox.seen_* has the key';
