# What capture costs in instructions where each row has a transaction of its
# own: the figure is the same however busy the machine is.
#
# The server that is measured is one of our own, all of whose processes run
# under callgrind.  A connection's count is written when it ends; that of a long
# run less that of a short one leaves out what a connection costs.
#
# shellcheck shell=bash

SHORT=50
APART=80
INSTRUCTIONS_DATA=$WORK_DIR/instructions

# instructions_server COMMAND...: starts it, as a child of that command
instructions_server()
{
	"$@" postgres -D "$INSTRUCTIONS_DATA" >>"$WORK_DIR/instructions.log" 2>&1 &
	INSTRUCTIONS_PID=$!
	until psql -XqAt -c "SELECT 1" >/dev/null 2>&1; do
		kill -0 "$INSTRUCTIONS_PID" || { tail -n 30 "$WORK_DIR/instructions.log" >&2; return 1; }
		sleep 0.1
	done
}

instructions_server_end()
{
	kill -INT "$INSTRUCTIONS_PID"
	wait "$INSTRUCTIONS_PID" || true
}

# count_of NAME SCRIPT TRANSACTIONS: instructions of the connection that ran
# them.  pgbench opens another one first, which the log tells as well.
count_of()
{
	local name=instructions_$1_$3 file sum=0 pid

	PGAPPNAME=$name PGOPTIONS="-c synchronous_commit=off" pgbench -n -M prepared -c 1 -t "$3" \
		-D id="$NEXT_ID" -f "$2" "$BENCH_DATABASE" >/dev/null 2>&1
	NEXT_ID=$((NEXT_ID + APART * $3))
	for _ in $(seq 600); do
		[ "$(grep -c "^$name .*disconnection" "$WORK_DIR/instructions.log")" != 2 ] || break
		sleep 0.1
	done
	for pid in $(sed -n "s/^$name \([0-9]*\) .*disconnection.*/\1/p" "$WORK_DIR/instructions.log"); do
		file=$WORK_DIR/callgrind.$pid
		for _ in $(seq 600); do
			! grep -q '^totals:' "$file" 2>/dev/null || break
			sleep 0.1
		done
		sum=$((sum + $(awk '/^totals:/ { print $2 }' "$file")))
	done
	[ -z "${CALLGRIND_KEEP:-}" ] || cp "$WORK_DIR/callgrind.$pid" "$CALLGRIND_KEEP/$name"
	COUNT=$sum
}

# measure_case SYSTEM CASE STATEMENT
measure_case()
{
	local script=$WORK_DIR/$1_$2.pgbench short

	printf '%s\n' "\\set id :id + $APART" "$3" >"$script"
	NEXT_ID=0
	count_of "$1_$2" "$script" "$SHORT"
	short=$COUNT
	count_of "$1_$2" "$script" "$((SHORT + CALLS))"
	sample instructions "$2" "$1" "$(((COUNT - short) / CALLS))"
}

measure_instructions()
{
	local system

	initdb -D "$INSTRUCTIONS_DATA" -U "$PGUSER" -A trust -E UTF8 --no-locale --no-sync >/dev/null
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$WORK_DIR'"
		echo "shared_preload_libraries = 'pg_outbox'"
		echo "log_disconnections = on"
		echo "log_line_prefix = '%a %p '"
		echo "autovacuum = off"
		echo "checkpoint_timeout = 1d"
		echo "max_wal_size = 4GB"
		echo "fsync = off"
		echo "full_page_writes = off"
	} >>"$INSTRUCTIONS_DATA/postgresql.conf"
	export PGHOST=$WORK_DIR PGPORT=5432

	instructions_server env
	systems bare outbox
	# a log and tables whose indexes have their usual height; each update meets
	# another page, which has room: what pruning costs depends on the moment
	for system in "${SYSTEMS[@]}"; do
		sql -c "CREATE TABLE orders_$system (LIKE bare INCLUDING ALL) WITH (fillfactor = 50)"
		"${system}_capture" "orders_$system"
		sql -c "INSERT INTO orders_$system SELECT * FROM rows_to_insert($(((CALLS + 2 * SHORT) * APART)))"
		"${system}_settle"
		sql -c "ALTER TABLE orders_$system RESET (fillfactor)"
	done
	sql -c "VACUUM ANALYZE" -c "CHECKPOINT"
	expect "SELECT count(*) FROM outbox.event_default" 0
	instructions_server_end

	instructions_server valgrind -q --tool=callgrind --callgrind-out-file="$WORK_DIR/callgrind.%p"
	for system in "${SYSTEMS[@]}"; do
		measure_case "$system" INSERT "INSERT INTO orders_$system VALUES
			(nextval('ids'), 5, 'new', 12.50, now(), 'a note of some length');"
		measure_case "$system" UPDATE "UPDATE orders_$system SET amount = amount + 1 WHERE id = :id;"
	done
	instructions_server_end
}

if command -v valgrind >/dev/null; then
	table instructions "Instructions of a single-row transaction" "as counted by callgrind" lower bare
	note instructions "Prepared statements, synchronous_commit = off, no page is written whole, indexes of height 2, a sequencer at work. The same at any load of the machine."
	ROUND=1
	measure_instructions
else
	echo "bench: valgrind is not installed: no instructions" >&2
fi
