-- Rights: nothing to PUBLIC but what a handler of an ordinary role needs.
-- Everything else is granted by the administrator, function by function.

REVOKE ALL ON ALL TABLES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA outbox FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA outbox FROM PUBLIC;

GRANT USAGE ON SCHEMA outbox TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.current_position() TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.current_attempt() TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.current_subscription() TO PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.is_replay() TO PUBLIC;
