-- PgQ: one queue, one consumer.

SET client_min_messages = warning;
CREATE EXTENSION pgq;

CREATE PROCEDURE reset_pgq() LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM pgq.queue WHERE queue_name = 'bench') THEN
		PERFORM pgq.unregister_consumer('bench', 'bench');
		PERFORM pgq.drop_queue('bench', true);
	END IF;
	PERFORM pgq.create_queue('bench');
	-- a tick whenever the ticker looks and there is something
	PERFORM pgq.set_queue_config('bench', 'ticker_max_count', '1');
	PERFORM pgq.set_queue_config('bench', 'ticker_max_lag', '0');
	PERFORM pgq.set_queue_config('bench', 'ticker_idle_period', '1 second');
	PERFORM pgq.register_consumer('bench', 'bench');
END $$;
CALL reset_pgq();

CREATE PROCEDURE fill_pgq(count bigint) LANGUAGE plpgsql AS $$
DECLARE
	queue_table text := pgq.current_event_table('bench');
BEGIN
	FOR begin_at IN 1 .. count BY 10000 LOOP
		-- straight into the table that pgq.insert_event would choose: a faster
		-- way to the same rows
		EXECUTE format(
			'INSERT INTO %s (ev_time, ev_type, ev_data, ev_extra1)
			 SELECT now(), ''filled.insert'', to_jsonb(row)::text, ''public.filled''
			 FROM rows_to_insert($1) row', queue_table)
		USING least(10000, count - begin_at + 1);
		COMMIT;
		PERFORM pgq.ticker('bench');
		COMMIT;
	END LOOP;
END $$;

-- One consumer for each handler.
DO $body$
DECLARE
	handler text;
	call text;
BEGIN
	FOREACH handler IN ARRAY '{insert,insert_isolated,nothing,nothing_isolated,mark}'::text[] LOOP
		call := format('PERFORM handle_%s(event.ev_id);', split_part(handler, '_', 1));
		IF handler LIKE '%isolated' THEN
			call := format('BEGIN %s EXCEPTION WHEN division_by_zero THEN RAISE; END;', call);
		END IF;
		EXECUTE format($format$
			CREATE PROCEDURE drain_pgq_%s() LANGUAGE plpgsql AS $procedure$
			DECLARE
				batch bigint;
				event record;
			BEGIN
				LOOP
					batch := pgq.next_batch('bench', 'bench');
					EXIT WHEN batch IS NULL;
					FOR event IN SELECT * FROM pgq.get_batch_events(batch) LOOP
						%s
					END LOOP;
					PERFORM pgq.finish_batch(batch);
					COMMIT;
				END LOOP;
			END $procedure$ $format$, handler, call);
	END LOOP;
END $body$;

CREATE PROCEDURE drain_pgq_batch_insert() LANGUAGE plpgsql AS $$
DECLARE
	batch bigint;
BEGIN
	LOOP
		batch := pgq.next_batch('bench', 'bench');
		EXIT WHEN batch IS NULL;
		INSERT INTO handled SELECT ev_id, clock_timestamp() FROM pgq.get_batch_events(batch);
		PERFORM pgq.finish_batch(batch);
		COMMIT;
	END LOOP;
END $$;

-- Looks every 10 milliseconds for as long as it is let, and ticks if told so.
CREATE PROCEDURE poll_pgq(tick boolean) LANGUAGE plpgsql AS $$
DECLARE
	batch bigint;
	event record;
BEGIN
	LOOP
		IF tick THEN
			PERFORM pgq.ticker('bench');
			COMMIT;
		END IF;
		batch := pgq.next_batch('bench', 'bench');
		IF batch IS NULL THEN
			COMMIT;
			PERFORM pg_sleep(0.01);
		ELSE
			FOR event IN SELECT * FROM pgq.get_batch_events(batch) LOOP
				PERFORM handle_insert(event.ev_data::bigint);
			END LOOP;
			PERFORM pgq.finish_batch(batch);
			COMMIT;
		END IF;
	END LOOP;
END $$;
