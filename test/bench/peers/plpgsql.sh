# What people write by hand: a trigger in PL/pgSQL that copies the row to a
# queue's table, and a consumer that takes it from there with FOR UPDATE SKIP
# LOCKED, by 1,000.
#
# shellcheck shell=bash

row_trigger_label() { echo "PL/pgSQL row trigger"; }
row_trigger_missing() { :; }
row_trigger_install() { sql -f peers/plpgsql.sql; }

row_trigger_capture()
{
	sql -c "CREATE TRIGGER outbox AFTER INSERT OR UPDATE OR DELETE ON $1
			FOR EACH ROW EXECUTE FUNCTION queue_row()"
}

row_trigger_settle() { sql -c "TRUNCATE queue"; }

statement_trigger_label() { echo "PL/pgSQL statement trigger"; }
statement_trigger_missing() { :; }
statement_trigger_install() { sql -f peers/plpgsql.sql; }

statement_trigger_capture()
{
	sql -c "CREATE TRIGGER outbox_insert AFTER INSERT ON $1 REFERENCING NEW TABLE AS changed
			FOR EACH STATEMENT EXECUTE FUNCTION queue_statement()" \
		-c "CREATE TRIGGER outbox_update AFTER UPDATE ON $1 REFERENCING NEW TABLE AS changed
			FOR EACH STATEMENT EXECUTE FUNCTION queue_statement()" \
		-c "CREATE TRIGGER outbox_delete AFTER DELETE ON $1 REFERENCING OLD TABLE AS changed
			FOR EACH STATEMENT EXECUTE FUNCTION queue_statement()"
}

statement_trigger_settle() { sql -c "TRUNCATE queue"; }

skip_locked_label() { echo "SKIP LOCKED by 1,000"; }
skip_locked_missing() { :; }
skip_locked_install() { sql -f peers/plpgsql.sql; }

# Numbered from 1 each time, for marks in a backlog.
skip_locked_fill()
{
	sql -c "TRUNCATE queue RESTART IDENTITY" \
		-c "INSERT INTO queue (type, key, data)
			SELECT 'filled.insert', id::text, to_jsonb(row) FROM rows_to_insert($1) row" \
		-c "ANALYZE queue"
}

skip_locked_drain() { milliseconds "CALL drain_queue_$1()"; }
skip_locked_settle() { sql -c "TRUNCATE queue"; }
skip_locked_publish() { echo "INSERT INTO queue (type, key, data) VALUES ('Measured', \$1::text, '{}')"; }

skip_locked_serve()
{
	sql -c "CALL poll_queue()" >/dev/null 2>&1 &
	SERVER=$!
	until_true "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query = 'CALL poll_queue()')"
}

skip_locked_rest()
{
	sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE query = 'CALL poll_queue()'" >/dev/null
	end_of "$SERVER"
}
