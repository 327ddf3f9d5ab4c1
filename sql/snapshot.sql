-- The progress of snapshots.  Not part of a dump: after a restore, a snapshot
-- starts again.

CREATE TABLE outbox.snapshot_progress (
    relation oid NOT NULL,
    last_key text[],
    key_columns text[],
    CONSTRAINT snapshot_progress_pkey PRIMARY KEY (relation)
);
COMMENT ON TABLE outbox.snapshot_progress IS 'the progress of outbox.snapshot() by table';
COMMENT ON COLUMN outbox.snapshot_progress.last_key IS
    'key of the last row that was read, column by column; NULL at the start';
COMMENT ON COLUMN outbox.snapshot_progress.key_columns IS
    'numbers and types of the key''s columns; a snapshot continues only while they are the same';
