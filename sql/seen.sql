-- Idempotency keys of publish(), and events passed to once().  Three tables are
-- written in turn: a TRUNCATE removes old rows, and no row is updated or
-- deleted.

CREATE TABLE outbox.seen_0 (
    consumer text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    event_id bigint NOT NULL,
    "time" timestamptz NOT NULL
);
CREATE INDEX seen_0_idx ON outbox.seen_0 (key, consumer);
COMMENT ON TABLE outbox.seen_0 IS 'idempotency keys and events seen by consumers; one of three';
COMMENT ON COLUMN outbox.seen_0.consumer IS 'as given to once(); empty for an idempotency key';
COMMENT ON COLUMN outbox.seen_0.key IS 'the idempotency key, or the event''s id';
COMMENT ON COLUMN outbox.seen_0.event_id IS
    'the event; a scheduled event gets its row when it enters the log';
COMMENT ON COLUMN outbox.seen_0."time" IS 'when the key was first used; for a scheduled event, when it was published';

CREATE TABLE outbox.seen_1 (LIKE outbox.seen_0 INCLUDING COMMENTS);
CREATE INDEX seen_1_idx ON outbox.seen_1 (key, consumer);
COMMENT ON TABLE outbox.seen_1 IS 'idempotency keys and events seen by consumers; one of three';

CREATE TABLE outbox.seen_2 (LIKE outbox.seen_0 INCLUDING COMMENTS);
CREATE INDEX seen_2_idx ON outbox.seen_2 (key, consumer);
COMMENT ON TABLE outbox.seen_2 IS 'idempotency keys and events seen by consumers; one of three';

-- Insert-only.  The largest turn is the one being written; before the first
-- row, that is turn 0.
CREATE TABLE outbox.seen_turn (
    turn bigint NOT NULL,
    sealed_at timestamptz
);
CREATE INDEX seen_turn_idx ON outbox.seen_turn (turn, sealed_at);
COMMENT ON TABLE outbox.seen_turn IS 'turns at writing: turn n writes to table n % 3';
COMMENT ON COLUMN outbox.seen_turn.sealed_at IS
    'NULL: the turn began; otherwise it is closed for writing, and none of its keys is newer';
