-- wal2json: a table that only WAL tells of, and a consumer that decodes it.

CREATE TABLE logged (id bigint);

-- The slot moves on when it is read, whatever becomes of the transaction: an
-- error loses what was read.
DO $body$
DECLARE
	handler text;
	call text;
BEGIN
	FOREACH handler IN ARRAY '{insert,insert_isolated,nothing,nothing_isolated}'::text[] LOOP
		call := format('PERFORM handle_%s((change->''columns''->0->>''value'')::bigint);',
					   split_part(handler, '_', 1));
		IF handler LIKE '%isolated' THEN
			call := format('BEGIN %s EXCEPTION WHEN division_by_zero THEN RAISE; END;', call);
		END IF;
		EXECUTE format($format$
			CREATE PROCEDURE drain_wal2json_%s() LANGUAGE plpgsql AS $procedure$
			DECLARE
				change jsonb;
			BEGIN
				FOR change IN
					SELECT data::jsonb
					FROM pg_logical_slot_get_changes('bench', NULL, NULL,
						'format-version', '2', 'include-transaction', 'false',
						'add-tables', 'public.logged', 'actions', 'insert')
				LOOP
					%s
				END LOOP;
				COMMIT;
			END $procedure$ $format$, handler, call);
	END LOOP;
END $body$;
