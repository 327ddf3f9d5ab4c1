# A transaction that stays open holds back what VACUUM may remove.  Does the
# log, or its bookkeeping, mind?
#
# shellcheck shell=bash

RATE=1000
seconds=$(awk "BEGIN { s = int($MINUTES * 60); print s < 1 ? 1 : s }")

# The two runs are systems to the report, each in a database of its own.
record label free "no transaction open"
record label held "one transaction open"
table held "Held xmin: $seconds s at $RATE events a second, 4 producers, 4 consumers (lanes)" \
	"as said" lower free
note held "p99: from the event's time to the handler's clock, including the producer's commit. dead tuples and MB: of pg_outbox's tables except the events, at the end."

# percentile_of CONDITION: the 99th, in milliseconds
percentile_of()
{
	sql -c "SELECT round((1000 * percentile_disc(0.99) WITHIN GROUP
				(ORDER BY extract(epoch FROM at - emitted)))::numeric, 3)
			FROM consumed WHERE $1"
}

measure()
{
	local name=$1 begin wanted

	systems outbox
	sql -c "CREATE EXTENSION pgstattuple" \
		-c "CREATE TABLE orders (LIKE bare INCLUDING ALL)" \
		-c "CREATE TABLE consumed (emitted timestamptz, at timestamptz)" \
		-c "CREATE FUNCTION consume(event outbox.event) RETURNS void LANGUAGE plpgsql AS
			'BEGIN INSERT INTO consumed VALUES (event.time, clock_timestamp()); END'" \
		-c "SELECT outbox.capture('orders')" \
		-c "SELECT outbox.subscribe('consume', handler => 'consume', concurrency => 4)" >/dev/null
	cat >"$WORK_DIR/produce.pgbench" <<-SQL
		INSERT INTO orders VALUES
		(nextval('ids'), :client_id, 'new', 12.50, now(), 'a note of some length');
	SQL
	[ "$name" = free ] || hold_open
	pgbench -n -M prepared -c 4 -j 1 -R "$RATE" -T "$seconds" -f "$WORK_DIR/produce.pgbench" \
		"$BENCH_DATABASE" >"$WORK_DIR/pgbench" 2>&1
	outbox_settle
	expect "SELECT count(*) FROM consumed" "$(sql -c "SELECT count(*) FROM orders")"

	ROUND=1
	sample held "events/s" "$name" "$(sql -c "
		SELECT round(count(*) / extract(epoch FROM max(at) - min(emitted)), 1) FROM consumed")"
	sample held "p99 ms" "$name" "$(percentile_of true)"
	sample held "p99 ms, last quarter" "$name" "$(percentile_of "emitted >
		(SELECT min(emitted) + 0.75 * (max(emitted) - min(emitted)) FROM consumed)")"
	sample held "dead tuples" "$name" "$(sql -c "
		SELECT sum((pgstattuple(c.oid)).dead_tuple_count)
		FROM pg_class c WHERE relnamespace = 'outbox'::regnamespace
		AND relkind = 'r' AND relname NOT LIKE 'event%'")"
	sample held "MB" "$name" "$(sql -c "
		SELECT round(sum(pg_total_relation_size(c.oid)) / 1e6, 2)
		FROM pg_class c WHERE relnamespace = 'outbox'::regnamespace
		AND relkind = 'r' AND relname NOT LIKE 'event%'")"
	[ "$name" = free ] || let_go
}

measure free
measure held
