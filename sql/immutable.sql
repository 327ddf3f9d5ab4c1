-- No statement of any role changes the log, under every replication role of the
-- session.  Statement triggers refuse before a row is read; row triggers are
-- cloned to partitions and guard them.

CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.event
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE INSERT OR UPDATE OR DELETE ON outbox.event
    FOR EACH ROW EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.event_default
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.segment
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON outbox.tally
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();

ALTER TABLE outbox.event ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE outbox.event ENABLE ALWAYS TRIGGER refuse_row_change;
ALTER TABLE outbox.event_default ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE outbox.event_default ENABLE ALWAYS TRIGGER refuse_row_change;
ALTER TABLE outbox.segment ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE outbox.tally ENABLE ALWAYS TRIGGER refuse_change;

-- Rows that refer to positions and ids are not loaded into a log with events.
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.subscription
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.progress
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.delivery
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.aggregate_window
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.failure
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.schedule
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.seen_0
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.seen_1
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.seen_2
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();
CREATE TRIGGER refuse_load BEFORE INSERT ON outbox.seen_turn
    FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change();

ALTER TABLE outbox.subscription ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.progress ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.delivery ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.aggregate_window ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.failure ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.schedule ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.seen_0 ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.seen_1 ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.seen_2 ENABLE ALWAYS TRIGGER refuse_load;
ALTER TABLE outbox.seen_turn ENABLE ALWAYS TRIGGER refuse_load;
