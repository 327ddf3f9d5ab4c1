-- The registered types of events and their contracts.  Sorted by bytes, because
-- the C code searches them in that order.

CREATE TABLE outbox.registered_type (
    type text COLLATE "C" NOT NULL,
    contract text,
    expression text,
    description text,
    registered_by regrole NOT NULL,
    search_path text NOT NULL,
    registered_at timestamptz NOT NULL,
    CONSTRAINT registered_type_pkey PRIMARY KEY (type)
);
COMMENT ON TABLE outbox.registered_type IS 'types of events and their contracts';
COMMENT ON COLUMN outbox.registered_type.contract IS 'as it was written; NULL for none';
COMMENT ON COLUMN outbox.registered_type.expression IS 'the contract with all names qualified';
COMMENT ON COLUMN outbox.registered_type.registered_by IS 'the contract runs with the rights of this role';
COMMENT ON COLUMN outbox.registered_type.search_path IS 'for the functions that the contract calls';

CREATE TRIGGER types_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.registered_type
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.types_changed();
ALTER TABLE outbox.registered_type ENABLE ALWAYS TRIGGER types_changed;
