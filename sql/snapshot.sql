-- How far the snapshots of tables came.  Not part of a dump: one that is
-- restored starts over.

CREATE TABLE outbox.snapshot_progress (
    relation oid NOT NULL,
    last_key text[],
    CONSTRAINT snapshot_progress_pkey PRIMARY KEY (relation)
);
COMMENT ON TABLE outbox.snapshot_progress IS 'snapshots under way: outbox.snapshot()';
COMMENT ON COLUMN outbox.snapshot_progress.last_key IS
    'key of the last row that was read, as jsonb writes it; NULL at the start';
