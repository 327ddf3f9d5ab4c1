# Ready events to handlers.
#
# shellcheck shell=bash

systems outbox outbox_lanes skip_locked pgq wal2json graphile_worker pg_boss
table dispatch "Dispatch of $ROWS ready events" "events a second" higher pgq
note dispatch "insert: a PL/pgSQL function that inserts a row. isolated: the same in a separate subtransaction; without it, one bad event fails the whole batch of a hand-written consumer. pg_outbox isolates events without one; there, isolated means a handler with an EXCEPTION block."
note dispatch "batch insert: one statement inserts the rows of a batch."
note dispatch "All loops run in the server, except those of graphile-worker and pg-boss (a twentieth of the events, handlers in Node). pg_outbox is measured from the call of subscribe until outbox.wait returns."
note dispatch "2 lanes: concurrency => 2, two dispatchers, order kept per key. The others have one consumer."
table dispatch_cpu "CPU of that dispatch" "microseconds an event" lower pgq
note dispatch_cpu "CPU time of the whole server, without clients. On a machine with other work it is more reliable than elapsed time."

measure()
{
	local system=$1 handler rows=$ROWS time cpu handlers

	case $system in
		graphile_worker | pg_boss)
			rows=$((ROWS / 20))
			handlers="insert nothing"
			;;
		wal2json) handlers="insert insert_isolated nothing" ;;
		outbox | outbox_lanes)
			handlers="insert insert_isolated nothing batch_insert batch_nothing"
			outbox_fill "$rows"
			;;
		*) handlers="insert insert_isolated nothing batch_insert" ;;
	esac
	for handler in $handlers; do
		[[ $system = outbox* ]] || "${system}_fill" "$rows"
		sql -c "TRUNCATE handled" -c CHECKPOINT
		cpu=$(cpu_milliseconds)
		time=$("${system}_drain" "$handler")
		cpu=$(($(cpu_milliseconds) - cpu))
		[[ $handler != *insert* ]] || expect "SELECT count(*) FROM handled" "$rows"
		sample dispatch "${handler//_/ }" "$system" "$(calculate "$rows * 1000 / $time")"
		sample dispatch_cpu "${handler//_/ }" "$system" "$(calculate "$cpu * 1000 / $rows")"
	done
}

rounds "$ROUNDS" measure
