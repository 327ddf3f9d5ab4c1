-- A call ends when its subscription's time is up, whatever time others have
-- whose handlers ran before in the same session.

CREATE EXTENSION pg_outbox;

CREATE FUNCTION quick(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION endless(e outbox.event) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(3600)';

SELECT outbox.subscribe('a_long', handler => 'quick', timeout => '1 hour');
SELECT outbox.subscribe('b_short', handler => 'endless', timeout => '10 milliseconds', max_attempts => 1);
SELECT outbox.subscribe('c_none', handler => 'quick', timeout => '0');
SELECT outbox.subscribe('d_shorter', handler => 'endless', timeout => '5 milliseconds', max_attempts => 1);

SELECT count(outbox.publish('t')) FROM generate_series(1, 3);

-- ten seconds are far above what the calls may take, and below what they ask for
SET statement_timeout = '10s';
CALL outbox.run();
RESET statement_timeout;

SELECT name, delivered, failed, dead, last_error FROM outbox.status ORDER BY name;

DROP EXTENSION pg_outbox CASCADE;
