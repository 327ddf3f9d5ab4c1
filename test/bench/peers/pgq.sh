# PgQ: its trigger in C, its ticker, and a consumer's loop.
#
# shellcheck shell=bash

pgq_label() { echo "PgQ"; }
pgq_missing() { has_extension pgq || echo "the extension pgq is not installed (postgresql-15-pgq3)"; }
pgq_install() { sql -f peers/pgq.sql; }

pgq_capture()
{
	sql -c "CREATE TRIGGER pgq AFTER INSERT OR UPDATE OR DELETE ON $1
			FOR EACH ROW EXECUTE FUNCTION pgq.jsontriga('bench')"
}

# Throws away what is queued: a new queue, in the place of the old one.
pgq_settle()
{
	sql -c "CALL reset_pgq()"
}

# By 10,000, with a tick behind each: a batch is what lies between two ticks.
pgq_fill()
{
	sql -c "CALL reset_pgq()" -c "CALL fill_pgq($1)"
}

pgq_drain() { milliseconds "CALL drain_pgq_$1()"; }
pgq_publish() { echo "SELECT pgq.insert_event('bench', 'Measured', \$1::text)"; }

# Its daemon makes the ticks, at its fastest, and a loop polls for batches.
pgq_serve()
{
	sql -c "CALL reset_pgq()"
	PGQD=
	if command -v pgqd >/dev/null; then
		cat >"$WORK_DIR/pgqd.ini" <<-INI
			[pgqd]
			logfile = $WORK_DIR/pgqd.log
			pidfile = $WORK_DIR/pgqd.pid
			database_list = $BENCH_DATABASE
			check_period = 1
			ticker_period = 0.01
		INI
		pgqd "$WORK_DIR/pgqd.ini" >/dev/null 2>&1 &
		PGQD=$!
	fi
	sql -c "CALL poll_pgq($([ -n "$PGQD" ] && echo false || echo true))" >/dev/null 2>&1 &
	SERVER=$!
	# until a batch has come through
	until_true "SELECT count(*) > 0 FROM pgq.get_consumer_info('bench', 'bench') WHERE last_tick > 1"
}

pgq_rest()
{
	[ -z "$PGQD" ] || end_of "$PGQD"
	sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE query LIKE 'CALL poll_pgq(%'" >/dev/null
	end_of "$SERVER"
}
