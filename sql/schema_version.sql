-- The columns that a captured table had at each time.  The present version's
-- number is in the argument of its rules' triggers, and events are written with
-- it.  This table is the history, for readers of events.

CREATE TABLE outbox.schema_version (
    source text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    columns jsonb NOT NULL,
    since timestamptz NOT NULL,
    CONSTRAINT schema_version_pkey PRIMARY KEY (source, version)
);
COMMENT ON TABLE outbox.schema_version IS 'the columns of captured tables, by version';
COMMENT ON COLUMN outbox.schema_version.source IS 'table, as the source of its events';
COMMENT ON COLUMN outbox.schema_version.version IS
    'as in headers.schema_version; events without that header have version 1';
COMMENT ON COLUMN outbox.schema_version.columns IS
    'array of {"name", "type"}, in the table''s order';
COMMENT ON COLUMN outbox.schema_version.since IS 'when it was recorded';
