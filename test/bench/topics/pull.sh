# Consumers that pull: one program, one lane.
#
# shellcheck shell=bash

systems outbox
table pull_rate "Pulling: one consumer, one lane" "events a second" higher "case:100, by turns"
note pull_rate "by turns: receive, ack, and receive again, in two round trips and two transactions for a hand-out. ahead: four hand-outs under one receipt, with ack and the next receive sent together. The number is max_events. The consumer reads position, key and data of all events."
table pull_ack "Pulling: acking one event, by size of the hand-out" "microseconds an ack" lower "case:of 10"
note pull_ack "100 acks (10 of a hand-out of 10) of one position each, from all over the hand-out, each in a transaction of its own."
table pull_wal "Pulling: WAL of consuming" "bytes an event" lower
note pull_wal "What receive and ack write, by size of the hand-out, consumed by turns; the events themselves were written before."
table pull_latency "Pulling: from a commit to the consumer, 100 events a second" "milliseconds" lower
note pull_latency "From the return of COMMIT at the producer until receive has returned the event to a consumer that waited for it, in outbox.await or for the notification of LISTEN outbox_head."

gcc -O2 -o "$WORK_DIR/pull" pull.c -I"$(pg_config --includedir)" -L"$(pg_config --libdir)" -lpq
gcc -O2 -pthread -o "$WORK_DIR/latency" latency.c \
	-I"$(pg_config --includedir)" -L"$(pg_config --libdir)" -lpq
sql -c "CREATE TABLE emitted (id bigint, begun float8, committed float8, heard float8)" \
	-c "CREATE TABLE pulled (id bigint, at float8)"

pull() { PGDATABASE=$BENCH_DATABASE "$WORK_DIR/pull" "$@"; }

subscribe_pull()
{
	sql -c "SET client_min_messages = warning" -c "SELECT outbox.subscribe('pull', start => (outbox.head() - $1 + 1)::text)" >/dev/null
}

unsubscribe_pull() { sql -c "SELECT outbox.unsubscribe('pull')" >/dev/null; }

# drain CASE SIZE AHEAD
drain()
{
	local events seconds lsn

	subscribe_pull "$SMALL_BACKLOG"
	sql -c "CHECKPOINT"
	lsn=$(sql -c "SELECT pg_current_wal_lsn()")
	read -r events seconds < <(pull drain "$2" "$3")
	[ "$events" = "$SMALL_BACKLOG" ] || {
		echo "bench: $events of $SMALL_BACKLOG events were pulled" >&2
		return 1
	}
	sample pull_rate "$1" outbox "$(calculate "$events / $seconds")"
	[ "$3" -gt 1 ] || sample pull_wal "$2 at a time" outbox \
		"$(sql -c "SELECT (pg_current_wal_lsn() - '$lsn') / $events")"
	unsubscribe_pull
}

measure_latency()
{
	local how=$1 count p50 p99 consumer

	subscribe_pull 0
	sql -c "TRUNCATE emitted, pulled"
	pull "$how" "$(calculate "$LATENCY_SECONDS + 2")" >"$WORK_DIR/pulled" &
	consumer=$!
	until_true "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'bench consumer'"
	PGDATABASE=$BENCH_DATABASE "$WORK_DIR/latency" 100 "$LATENCY_SECONDS" 1 - "$(outbox_publish)" >"$WORK_DIR/emitted"
	wait "$consumer"
	sql -c "\\copy emitted FROM '$WORK_DIR/emitted'" -c "\\copy pulled FROM '$WORK_DIR/pulled'"
	count=$(sql -c "SELECT count(*) FROM emitted")
	expect "SELECT count(DISTINCT id) FROM pulled" "$count"
	read -r p50 p99 < <(sql -F ' ' -c "
		SELECT 1000 * percentile_disc(0.5) WITHIN GROUP (ORDER BY at - committed),
			   1000 * percentile_disc(0.99) WITHIN GROUP (ORDER BY at - committed)
		FROM emitted JOIN pulled USING (id)")
	sample pull_latency "$how, p50" outbox "$p50"
	sample pull_latency "$how, p99" outbox "$p99"
	unsubscribe_pull
}

measure()
{
	local size

	drain "100, by turns" 100 1
	drain "1,000, by turns" 1000 1
	drain "10,000, by turns" 10000 1
	drain "100, ahead" 100 4
	drain "1,000, ahead" 1000 4
	for size in 10 100 1000 10000; do
		[ "$size" -le "$SMALL_BACKLOG" ] || continue
		subscribe_pull "$SMALL_BACKLOG"
		sample pull_ack "of $size" outbox "$(pull ack "$size")"
		unsubscribe_pull
	done
	measure_latency await
	measure_latency listen
}

outbox_fill "$SMALL_BACKLOG"
rounds "$ROUNDS" measure
