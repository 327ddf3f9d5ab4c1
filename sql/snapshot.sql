-- How far the snapshots of tables came.  Not part of a dump: one that is
-- restored starts over.

CREATE TABLE outbox.snapshot_progress (
    relation oid NOT NULL,
    last_key text[],
    key_columns text[],
    CONSTRAINT snapshot_progress_pkey PRIMARY KEY (relation)
);
COMMENT ON TABLE outbox.snapshot_progress IS 'snapshots under way: outbox.snapshot()';
COMMENT ON COLUMN outbox.snapshot_progress.last_key IS
    'key of the last row that was read, column by column; NULL at the start';
COMMENT ON COLUMN outbox.snapshot_progress.key_columns IS
    'numbers and types of the key''s columns; a snapshot goes on only while they stay';
