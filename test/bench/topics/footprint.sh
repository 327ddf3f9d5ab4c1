# Bytes of disk, of WAL and of memory; and what it does when there is nothing
# to do.
#
# shellcheck shell=bash

systems outbox row_trigger pgq
record label plain "plain table: id, jsonb, primary key"
table footprint "Footprint of an event for a row of six columns" "bytes an event" lower \
	plain
note footprint "$ROWS rows in one statement; the WAL of the captured table itself is not counted."
note footprint "PgQ and the hand-written queue are measured at their largest, before events are removed."

# size_of SCHEMA PATTERN: of tables and their indexes
size_of()
{
	sql -c "SELECT sum(pg_total_relation_size(oid)) FROM pg_class
			WHERE relkind = 'r' AND relnamespace = '$1'::regnamespace AND relname LIKE '$2'"
}

# weigh SYSTEM SCHEMA PATTERN STATEMENT
weigh()
{
	local system=$1 disk wal

	sql -c CHECKPOINT
	disk=$(size_of "$2" "$3")
	wal=$(sql -c "SELECT pg_current_wal_insert_lsn()")
	sql -c "$4" >/dev/null
	[ "$system" != outbox ] || outbox_settle
	wal=$(sql -c "SELECT pg_current_wal_insert_lsn() - '$wal'")
	disk=$(($(size_of "$2" "$3") - disk))
	ROUND=1
	sample footprint disk "$system" "$(calculate "$disk / $ROWS")"
	sample footprint WAL "$system" "$(calculate "$wal / $ROWS")"
}

sql -c "CREATE TABLE plain (id bigint PRIMARY KEY, data jsonb NOT NULL)"
weigh plain public plain \
	"INSERT INTO plain SELECT id, to_jsonb(row) FROM rows_to_insert($ROWS) row"
for system in "${SYSTEMS[@]}"; do
	sql -c "CREATE UNLOGGED TABLE orders (LIKE bare)"
	case $system in
		outbox)
			sql -c "SELECT outbox.capture('orders', key => '{id}')" >/dev/null
			where=(outbox %)
			;;
		row_trigger)
			row_trigger_capture orders
			where=(public queue)
			;;
		pgq)
			sql -c "CREATE TRIGGER pgq AFTER INSERT ON orders
					FOR EACH ROW EXECUTE FUNCTION pgq.jsontriga('bench', 'pkey=id')"
			where=(pgq event_%)
			;;
	esac
	weigh "$system" "${where[@]}" \
		"INSERT INTO orders SELECT * FROM rows_to_insert($ROWS)"
	sql -c "DROP TABLE orders"
done

# ---- memory ----

table memory "Memory of a process, not shared with others" "MB" lower

# private_memory PID
private_memory()
{
	awk '/^Private/ { sum += $2 } END { printf "%.2f\n", sum / 1024 }' "/proc/$1/smaps_rollup"
}

pid_of() { sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_outbox $1' $2 LIMIT 1"; }

# its dispatcher has handled them all, and stays for more
sql -c "SELECT outbox.subscribe('stay', handler => 'event_nothing',
		start => (outbox.head() - $ROWS + 1)::text)" >/dev/null
until_true "SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE backend_type = 'pg_outbox dispatcher' AND datname = current_database())"
dispatcher=$(pid_of dispatcher "AND datname = current_database()")
outbox_settle
for role in launcher sequencer dispatcher; do
	pid=$dispatcher
	[ "$role" = dispatcher ] ||
		pid=$(pid_of "$role" "AND (datname IS NULL OR datname = current_database())")
	[ -e "/proc/$pid" ] || continue
	record label "$role" "pg_outbox's $role"
	sample memory "private" "$role" "$(private_memory "$pid")"
done

record label backend "a backend that has done nothing"
coproc BACKEND { sql 2>&1; }
echo "SELECT pg_backend_pid();" >&"${BACKEND[1]}"
read -r pid <&"${BACKEND[0]}"
sample memory "private" backend "$(private_memory "$pid")"
echo '\q' >&"${BACKEND[1]}"

# ---- idle ----

table idle "Nothing to do, for $IDLE_SECONDS s, one subscription active" "as said" lower

cpu_of_workers()
{
	local pid pids=()

	for pid in $(sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pg_outbox%'"); do
		pids+=("/proc/$pid/stat")
	done
	awk -v tick="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); sum += $12 + $13 }
		END { print sum * 1000 / tick }' "${pids[@]}"
}

# What PostgreSQL does by itself is not ours: autovacuum has work after all
# these rows, and the background writer one record to write after a checkpoint,
# within 15 seconds; so where there was WAL, look once more.
sql -c "ALTER SYSTEM SET autovacuum = off" -c "SELECT pg_reload_conf()" >/dev/null
until_true "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
sql -c CHECKPOINT
for _ in 1 2; do
	wal=$(sql -c "SELECT pg_current_wal_insert_lsn()")
	cpu=$(cpu_of_workers)
	sleep "$IDLE_SECONDS"
	wal=$(sql -c "SELECT pg_current_wal_insert_lsn() - '$wal'")
	cpu=$(calculate "($(cpu_of_workers) - $cpu) * 60 / $IDLE_SECONDS")
	[ "$wal" != 0 ] || break
done
sql -c "ALTER SYSTEM RESET autovacuum" -c "SELECT pg_reload_conf()" >/dev/null
sample idle "WAL bytes" outbox "$wal"
sample idle "CPU ms a minute" outbox "$cpu"
