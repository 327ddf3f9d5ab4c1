# What capture costs where each row has a transaction of its own.
#
# shellcheck shell=bash

systems bare outbox_notify outbox row_trigger statement_trigger pgq notify wal2json \
	graphile_worker pg_boss
table small "Capture in single-row transactions (pgbench, prepared statements)" \
	"transactions a second" higher bare
note small "async and sync mean synchronous_commit = off and on. pgbench runs on the same cores."
note small "During the test pg_outbox assigns positions, and its NOTIFY subscription sends; no consumer reads the other queues."

for system in "${SYSTEMS[@]}"; do
	sql -c "CREATE TABLE small_$system (LIKE bare INCLUDING ALL)"
	"${system}_capture" "small_$system"
	cat >"$WORK_DIR/$system.pgbench" <<-SQL
		INSERT INTO small_$system VALUES
		(nextval('ids'), :client_id, 'new', 12.50, now(), 'a note of some length');
	SQL
done

measure()
{
	local system=$1 clients commit name

	hook "$system" begin "small_$system"
	for clients in $CLIENTS; do
		for commit in off on; do
			name=$([ "$commit" = on ] && echo sync || echo async)
			# shellcheck disable=SC2086	# LOAD is an option and its value
			PGOPTIONS="-c synchronous_commit=$commit" pgbench -n -M prepared -c "$clients" -j 2 \
				$LOAD -f "$WORK_DIR/$system.pgbench" "$BENCH_DATABASE" 2>&1 |
				sed -n 's/^tps = \([0-9.]*\).*/\1/p' >"$WORK_DIR/tps"
			sample small "$clients clients, $name" "$system" "$(cat "$WORK_DIR/tps")"
			"${system}_settle"
		done
	done
	hook "$system" end
}

rounds "$ROUNDS" measure
