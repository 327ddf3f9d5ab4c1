-- Capture rules follow DDL of every role and under every replication role.  The
-- triggers fire for all commands, because many commands can have the same effect.

CREATE EVENT TRIGGER outbox_capture_permit_partitions ON ddl_command_start
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'CREATE SCHEMA')
    EXECUTE FUNCTION outbox.capture_permit_partitions();
CREATE EVENT TRIGGER outbox_capture_follow_ddl ON ddl_command_end
    EXECUTE FUNCTION outbox.capture_follow_ddl();
CREATE EVENT TRIGGER outbox_capture_follow_drop ON sql_drop
    EXECUTE FUNCTION outbox.capture_follow_drop();

ALTER EVENT TRIGGER outbox_capture_permit_partitions ENABLE ALWAYS;
ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER outbox_capture_follow_drop ENABLE ALWAYS;

-- Other triggers and rules would miss writes to the extension's tables.
CREATE EVENT TRIGGER outbox_refuse_trigger ON ddl_command_end
    WHEN TAG IN ('CREATE TRIGGER', 'CREATE RULE', 'CREATE SCHEMA')
    EXECUTE FUNCTION outbox.refuse_trigger();

ALTER EVENT TRIGGER outbox_refuse_trigger ENABLE ALWAYS;
