-- Capture rules follow DDL, whoever runs it and under whatever replication role.

CREATE EVENT TRIGGER outbox_capture_follow_ddl ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
                 'ALTER TYPE', 'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE TRIGGER')
    EXECUTE FUNCTION outbox.capture_follow_ddl();
CREATE EVENT TRIGGER outbox_capture_follow_drop ON sql_drop
    EXECUTE FUNCTION outbox.capture_follow_drop();

ALTER EVENT TRIGGER outbox_capture_follow_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER outbox_capture_follow_drop ENABLE ALWAYS;
