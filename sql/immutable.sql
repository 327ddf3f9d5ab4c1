-- Nobody changes the log by a statement, whatever the session's replication
-- role is.  Statement triggers refuse before a row is looked at; the row
-- triggers are cloned to partitions and guard those.

CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.event
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE INSERT OR UPDATE OR DELETE ON outbox.event
    FOR EACH ROW EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.event_default
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.segment
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();

ALTER TABLE outbox.event ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE outbox.event ENABLE ALWAYS TRIGGER refuse_row_change;
ALTER TABLE outbox.event_default ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE outbox.event_default ENABLE ALWAYS TRIGGER refuse_row_change;
ALTER TABLE outbox.segment ENABLE ALWAYS TRIGGER refuse_change;
