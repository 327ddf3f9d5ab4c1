# Sourced by test/bench/run: what topics and peers share.
#
# A topic (topics/NAME.sh) measures; a peer (peers/NAME.sh) is a system that
# can be measured.  A topic calls what it needs of a peer by name:
#
#   NAME_label            how tables and plots call it
#   NAME_missing          prints why it cannot take part here, or nothing
#   NAME_install          its objects, in a fresh database
#   NAME_capture TABLE    every change of the table becomes an event
#   NAME_settle           all that was emitted is dealt with, or thrown away
#   NAME_fill COUNT       that many events are ready to be delivered
#   NAME_drain HANDLER    delivers them all; prints the milliseconds
#   NAME_publish          SQL that emits one event with the number $1
#   NAME_serve, NAME_rest start and end a consumer that notes number and clock
#
# and where a peer has them:
#
#   NAME_begin TABLE, NAME_end  around what is measured with a captured table
#   NAME_collect                brings what its consumer has noted to "handled"
#
# What is measured goes to $OUT/TOPIC.tsv, a line a figure; test/bench/report
# makes tables and plots of it.
#
# shellcheck shell=bash

BENCH_DATABASE=bench
ROUND=0
SYSTEMS=()

# ---- sizes: each can be set by itself ----

case ${BENCH_SIZE:-full} in
	full)
		: "${ROWS:=200000}" "${ROUNDS:=3}" "${LOAD:=-T 2}" "${CLIENTS:=4 16}" "${LATENCY_SECONDS:=8}"
		: "${BACKLOG:=10000000}" "${PEER_BACKLOG:=1000000}" "${SMALL_BACKLOG:=100000}"
		: "${LANE_EVENTS:=400}" "${MINUTES:=10}" "${IDLE_SECONDS:=20}" "${CALLS:=1000}"
		: "${SCALE:=100000}" "${SCALE_OBJECTS:=500}" "${SCALE_TIMES:=7}" "${SCALE_SECONDS:=20}"
		;;
	quick)
		: "${ROWS:=20000}" "${ROUNDS:=1}" "${LOAD:=-T 1}" "${CLIENTS:=4}" "${LATENCY_SECONDS:=1}"
		: "${BACKLOG:=200000}" "${PEER_BACKLOG:=50000}" "${SMALL_BACKLOG:=20000}"
		: "${LANE_EVENTS:=50}" "${MINUTES:=0.05}" "${IDLE_SECONDS:=2}" "${CALLS:=500}"
		: "${SCALE:=5000}" "${SCALE_OBJECTS:=100}" "${SCALE_TIMES:=3}" "${SCALE_SECONDS:=4}"
		;;
	tiny)
		: "${ROWS:=500}" "${ROUNDS:=1}" "${LOAD:=-t 5}" "${CLIENTS:=4 16}" "${LATENCY_SECONDS:=0.1}"
		: "${BACKLOG:=2000}" "${PEER_BACKLOG:=2000}" "${SMALL_BACKLOG:=1000}"
		: "${LANE_EVENTS:=5}" "${MINUTES:=0}" "${IDLE_SECONDS:=0.1}" "${CALLS:=20}"
		: "${SCALE:=100}" "${SCALE_OBJECTS:=20}" "${SCALE_TIMES:=1}" "${SCALE_SECONDS:=1}"
		;;
	*)
		echo "bench: BENCH_SIZE is full, quick or tiny, not \"$BENCH_SIZE\"" >&2
		exit 1
		;;
esac

# ---- SQL ----

sql() { psql -XqAt -v ON_ERROR_STOP=1 -d "$BENCH_DATABASE" "$@"; }

# milliseconds STATEMENT...: how long they take, one after the other, as the
# server's client sees it.
milliseconds()
{
	local statement arguments=()

	for statement in "$@"; do arguments+=(-c "$statement"); done
	sql -c '\timing on' "${arguments[@]}" |
		awk '/^Time: / { sum += $2 } END { printf "%.3f\n", sum }'
}

# until_true SQL: wait for a state, five minutes at most.
until_true()
{
	local left=3000

	until [ "$(sql -c "$1")" = t ]; do
		left=$((left - 1))
		[ "$left" -gt 0 ] || {
			echo "bench: never true: $1" >&2
			return 1
		}
		sleep 0.1
	done
}

fresh_database()
{
	psql -XqAt -v ON_ERROR_STOP=1 -c "DROP DATABASE IF EXISTS $BENCH_DATABASE WITH (FORCE)" \
		-c "CREATE DATABASE $BENCH_DATABASE" 2>/dev/null
	sql -f schema.sql
}

calculate() { awk "BEGIN { printf \"%.6g\n\", $1 }"; }

# ---- what is measured ----

record()
{
	local IFS=$'\t'
	printf '%s\n' "$*" >>"$OUT/$TOPIC.tsv"
}

# table NAME TITLE UNIT BETTER [BASE]: the figures that follow under NAME.
# BETTER is "lower" or "higher"; with a BASE, each figure is shown with its ratio
# to the base's in the same round: that of a system, or with "case:CASE" that of
# another case of the same system.
table() { record table "$1" "$2" "$3" "$4" "${5:--}"; }

note() { record note "$1" "$2"; }

# sample TABLE CASE SYSTEM VALUE
sample() { record sample "$1" "$2" "$3" "$ROUND" "$4"; }

# ---- who takes part ----

# systems NAME...: install them in a fresh database, and say which are not here
systems()
{
	local system why

	SYSTEMS=()
	fresh_database
	for system in "$@"; do
		record label "$system" "$("${system}_label")"
		why=$("${system}_missing")
		if [ -n "$why" ]; then
			record skipped "$system" "$why"
		else
			"${system}_install"
			SYSTEMS+=("$system")
		fi
	done
}

# rounds COUNT FUNCTION: alternates the systems, so that what disturbs the
# machine meets them all
rounds()
{
	local system

	for ((ROUND = 1; ROUND <= $1; ROUND++)); do
		for system in "${SYSTEMS[@]}"; do
			"$2" "$system"
		done
	done
	ROUND=0
}

has_extension()
{
	psql -XqAt -c "SELECT 1 FROM pg_available_extensions WHERE name = '$1'" | grep -q 1
}

has_module()
{
	[ -n "${BENCH_NODE_MODULES:-}" ] && [ -d "$BENCH_NODE_MODULES/$1" ] &&
		command -v node >/dev/null
}

# ---- processes ----

# cpu_milliseconds: used so far by the server and all it has started
cpu_milliseconds()
{
	local postmaster

	postmaster=$(head -n 1 "$(sql -c 'SHOW data_directory')/postmaster.pid")
	# a process may end before it is read
	{ cat /proc/[0-9]*/stat 2>/dev/null || true; } |
		awk -v postmaster="$postmaster" -v tick="$(getconf CLK_TCK)" '
		{
			pid = $1
			sub(/^.*\) /, "")	# the name may hold spaces
			if (pid == postmaster)
				sum += $12 + $13 + $14 + $15
			else if ($2 == postmaster)
				sum += $12 + $13
		}
		END { printf "%d\n", sum * 1000 / tick }'
}

# end_of PID: wait for a process of ours that was told to end
end_of()
{
	kill "$1" 2>/dev/null || true
	wait "$1" 2>/dev/null || true
}

end_jobs()
{
	local job

	for job in $(jobs -p); do
		end_of "$job"
	done
}

# hook NAME WHAT ARGUMENT...: what only some peers have
hook()
{
	local name=$1_$2
	shift 2

	if declare -F "$name" >/dev/null; then
		"$name" "$@"
	fi
}

# expect SQL VALUE: a figure counts only if the work was done
expect()
{
	local value

	value=$(sql -c "$1")
	[ "$value" = "$2" ] || {
		echo "bench: \"$value\" where $2 was expected: $1" >&2
		return 1
	}
}

# hold_open, let_go: a transaction that has a snapshot, and stays
hold_open()
{
	sql -c "BEGIN ISOLATION LEVEL REPEATABLE READ" -c "SELECT txid_current() > 0" \
		-c "SELECT pg_sleep(100000) /* held open */" >/dev/null 2>&1 &
	HOLDER=$!
	until_true "SELECT EXISTS (SELECT FROM pg_stat_activity
				WHERE query LIKE '%/* held open */' AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid())"
}

let_go()
{
	sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE query LIKE '%/* held open */' AND pid <> pg_backend_pid()" >/dev/null
	wait "$HOLDER" || true
}
