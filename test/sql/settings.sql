-- The settings outbox.*: units, limits, and what is refused.
LOAD 'pg_outbox';

SELECT name, boot_val AS setting, unit, min_val, max_val, context
FROM pg_settings WHERE name LIKE 'outbox.%' ORDER BY name;

-- units
SET outbox.retention = '7d';
SHOW outbox.retention;
SET outbox.retention = -1;
SHOW outbox.retention;
SET outbox.partition_interval = '90min';
SHOW outbox.partition_interval;
SET outbox.poll_interval = '2s';
SHOW outbox.poll_interval;
\set VERBOSITY sqlstate
SET outbox.poll_interval = '1ms';
SET outbox.max_workers = -1;
\set VERBOSITY default

-- those of the service are not for everyone, those of events are
CREATE ROLE outbox_settings_user;
SET ROLE outbox_settings_user;
SET outbox.max_workers = 100;
SET outbox.retention = 1;
SET outbox.correlation_id = 'order-17';
SHOW outbox.correlation_id;
RESET ROLE;
DROP ROLE outbox_settings_user;

-- W3C trace context
SET outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SHOW outbox.traceparent;
SET outbox.traceparent = 'cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later';
SET outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later';
SET outbox.traceparent = 'ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
SET outbox.traceparent = '00-00000000000000000000000000000000-00f067aa0ba902b7-01';
SET outbox.traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01';
SET outbox.traceparent = '00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01';
SET outbox.traceparent = 'nonsense';
SET outbox.traceparent = '';

-- headers are a JSON object
SET outbox.headers = '{"tenant": "acme", "nested": {"a": [1, 2]}}';
SHOW outbox.headers;
SET outbox.headers = ' {} ';
SET outbox.headers = '[1]';
SET outbox.headers = '"text"';
SET outbox.headers = '{"a": ';
SET outbox.headers = '{"a": "\u0000"}';
SET outbox.headers = 'x';
SET outbox.headers = '';
