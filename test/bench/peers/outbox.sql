-- pg_outbox: a handler for each of the ways to be called.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_outbox;
CREATE UNLOGGED TABLE IF NOT EXISTS filled (LIKE bare);

CREATE OR REPLACE FUNCTION event_insert(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO handled VALUES (event.id, clock_timestamp());
END $$;

-- A subtransaction around each call, as a consumer of one's own would need it
-- to survive a bad event.  pg_outbox isolates events without one.
CREATE OR REPLACE FUNCTION event_insert_isolated(event outbox.event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO handled VALUES (event.id, clock_timestamp());
EXCEPTION WHEN division_by_zero THEN
	RAISE;
END $$;

CREATE OR REPLACE FUNCTION event_nothing(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
END $$;

CREATE OR REPLACE FUNCTION event_batch_insert(events outbox.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO handled SELECT id, clock_timestamp() FROM unnest(events);
END $$;

CREATE OR REPLACE FUNCTION event_batch_nothing(events outbox.event[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
END $$;

-- Latency: the number is the event's key.
CREATE OR REPLACE FUNCTION stamp(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO handled VALUES (event.key::bigint, clock_timestamp());
END $$;

CREATE OR REPLACE FUNCTION event_mark(event outbox.event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF event.id % 100 = 0 THEN
		INSERT INTO mark VALUES (outbox.current_position(), clock_timestamp());
	END IF;
END $$;
