# From a commit to its handler or listener.
#
# shellcheck shell=bash

systems bare outbox outbox_notify notify skip_locked pgq wal2json graphile_worker pg_boss
for rate in 100 5000; do
	table "latency_$rate" "Latency at $rate events a second" "milliseconds" lower
	note "latency_$rate" "From the return of COMMIT at the producer to the handler's clock (pg_outbox, SKIP LOCKED, PgQ, the job queues), or to the clock of the reading client (NOTIFY, wal2json)."
	note "latency_$rate" "bare statement: the time of the producer's own INSERT and COMMIT. NOTIFY in a trigger has no handler, no bookkeeping and no retry."
done
note latency_5000 "The 8 connections of the producers do not wait for the disk (synchronous_commit = off), so that they keep the pace; the consumers do."
note latency_100 "SKIP LOCKED and PgQ poll every 10 ms; pgqd ticks at its shortest interval; pg-boss polls twice a second, its shortest interval."

gcc -O2 -pthread -o "$WORK_DIR/latency" latency.c \
	-I"$(pg_config --includedir)" -L"$(pg_config --libdir)" -lpq
sql -c "CREATE TABLE bare_event (id bigint PRIMARY KEY)" \
	-c "CREATE TABLE emitted (id bigint, begun float8, committed float8, heard float8)"

bare_publish() { echo "INSERT INTO bare_event VALUES (\$1::bigint)"; }

# percentiles_of EXPRESSION: in milliseconds
percentiles_of()
{
	sql -F ' ' -c "
		SELECT 1000 * percentile_disc(0.5) WITHIN GROUP (ORDER BY $1),
			   1000 * percentile_disc(0.99) WITHIN GROUP (ORDER BY $1),
			   1000 * percentile_disc(0.999) WITHIN GROUP (ORDER BY $1)
		FROM emitted LEFT JOIN handled USING (id)"
}

measure_rate()
{
	local system=$1 rate=$2 connections=1 commit=on channel=- expression count p50 p99 p999

	if [ "$rate" -gt 1000 ]; then
		connections=8
		commit=off
	fi
	sql -c "TRUNCATE handled, emitted, bare_event"
	[ "$system" = bare ] || "${system}_serve"
	case $system in
		bare) expression="committed - begun" ;;
		*notify)
			channel=bench
			expression="nullif(heard, 0) - committed"
			;;
		*) expression="extract(epoch FROM at)::float8 - committed" ;;
	esac

	PGDATABASE=$BENCH_DATABASE PGOPTIONS="-c synchronous_commit=$commit" \
		"$WORK_DIR/latency" "$rate" "$(latency_seconds "$rate")" "$connections" "$channel" \
		"$("${system}_publish")" >"$WORK_DIR/emitted"
	sql -c "\\copy emitted FROM '$WORK_DIR/emitted'"
	count=$(sql -c "SELECT count(*) FROM emitted")
	if [ "$channel" = - ] && [ "$system" != bare ]; then
		until_handled "$system" "$count"
	else
		expect "SELECT count(*) FROM emitted WHERE heard = 0" \
			"$([ "$system" = bare ] && echo "$count" || echo 0)"
	fi

	[ "$system" = bare ] || "${system}_rest"

	read -r p50 p99 p999 < <(percentiles_of "$expression")
	sample "latency_$rate" p50 "$system" "$p50"
	sample "latency_$rate" p99 "$system" "$p99"
	sample "latency_$rate" p99.9 "$system" "$p999"
	sample "latency_$rate" "emitted/s" "$system" "$(sql -c "
		SELECT round((count(*) - 1) / (max(begun) - min(begun))) FROM emitted")"
}

# half as long at the higher rate
latency_seconds()
{
	if [ "$1" -gt 1000 ]; then calculate "$LATENCY_SECONDS / 2"; else echo "$LATENCY_SECONDS"; fi
}

# Every event handled, if need be long after the last was emitted.
until_handled()
{
	local system=$1 count=$2 left=1200

	until [ "$(hook "$system" collect; sql -c "SELECT count(DISTINCT id) FROM handled")" -ge "$count" ]; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || {
			echo "bench: $system does not handle all events" >&2
			return 1
		}
		sleep 0.1
	done
}

measure()
{
	measure_rate "$1" 100
	[ "$1" = pg_boss ] || measure_rate "$1" 5000
}

rounds "$(((ROUNDS + 1) / 2))" measure
