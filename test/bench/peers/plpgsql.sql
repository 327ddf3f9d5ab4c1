-- A queue's table as it is written by hand, its triggers and its consumers.

SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS queue (
	id bigserial PRIMARY KEY,
	type text NOT NULL,
	key text,
	data jsonb NOT NULL,
	created timestamptz NOT NULL DEFAULT now());

CREATE OR REPLACE FUNCTION queue_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		INSERT INTO queue (type, key, data)
		VALUES (TG_TABLE_NAME || '.' || lower(TG_OP), OLD.id::text, to_jsonb(OLD));
	ELSE
		INSERT INTO queue (type, key, data)
		VALUES (TG_TABLE_NAME || '.' || lower(TG_OP), NEW.id::text, to_jsonb(NEW));
	END IF;
	RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION queue_statement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO queue (type, key, data)
	SELECT TG_TABLE_NAME || '.' || lower(TG_OP), id::text, to_jsonb(changed) FROM changed;
	RETURN NULL;
END $$;

-- One consumer for each handler.  A procedure that commits batch by batch has
-- no round trips at all, which is kinder than a client's loop.
DO $body$
DECLARE
	handler text;
	call text;
BEGIN
	FOREACH handler IN ARRAY '{insert,insert_isolated,nothing,nothing_isolated,mark}'::text[] LOOP
		call := format('PERFORM handle_%s(event.id);', split_part(handler, '_', 1));
		IF handler LIKE '%isolated' THEN
			call := format('BEGIN %s EXCEPTION WHEN division_by_zero THEN RAISE; END;', call);
		END IF;
		EXECUTE format($format$
			CREATE OR REPLACE PROCEDURE drain_queue_%s() LANGUAGE plpgsql AS $procedure$
			DECLARE
				event queue;
				taken boolean;
			BEGIN
				LOOP
					taken := false;
					FOR event IN
						DELETE FROM queue WHERE id = ANY (ARRAY(
							SELECT id FROM queue ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED))
						RETURNING *
					LOOP
						taken := true;
						%s
					END LOOP;
					EXIT WHEN NOT taken;
					COMMIT;
				END LOOP;
			END $procedure$ $format$, handler, call);
	END LOOP;
END $body$;

CREATE OR REPLACE PROCEDURE drain_queue_batch_insert() LANGUAGE plpgsql AS $$
BEGIN
	LOOP
		WITH event AS (
			DELETE FROM queue WHERE id = ANY (ARRAY(
				SELECT id FROM queue ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED))
			RETURNING *)
		INSERT INTO handled SELECT id, clock_timestamp() FROM event;
		EXIT WHEN NOT FOUND;
		COMMIT;
	END LOOP;
END $$;

-- Looks every 10 milliseconds for as long as it is let; the number is the key.
CREATE OR REPLACE PROCEDURE poll_queue() LANGUAGE plpgsql AS $$
DECLARE
	event queue;
	taken boolean;
BEGIN
	LOOP
		taken := false;
		FOR event IN
			DELETE FROM queue WHERE id = ANY (ARRAY(
				SELECT id FROM queue ORDER BY id LIMIT 1000 FOR UPDATE SKIP LOCKED))
			RETURNING *
		LOOP
			taken := true;
			PERFORM handle_insert(event.key::bigint);
		END LOOP;
		COMMIT;
		IF NOT taken THEN
			PERFORM pg_sleep(0.01);
		END IF;
	END LOOP;
END $$;
