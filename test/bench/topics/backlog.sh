# Does it matter how much is waiting?  And a transaction that stays open?
#
# shellcheck shell=bash

systems outbox skip_locked pgq
table backlog "Backlog: rates of dispatch to a handler that does nothing" \
	"events a second" higher "case:few waiting"
note backlog "few: $SMALL_BACKLOG events; many: $BACKLOG for pg_outbox, $PEER_BACKLOG for the others."
note backlog "oldest, last: the first and the last $SMALL_BACKLOG of many. newest alone: a subscription that starts $SMALL_BACKLOG before the end of many."
note backlog "open: with a REPEATABLE READ transaction whose snapshot is older than the events."

# rate_of WHICH: of the first or last part of the marks, or of them all
rate_of()
{
	local part=$((SMALL_BACKLOG / 100))

	sql -c "SELECT round(100 * (count(*) - 1) / extract(epoch FROM max(at) - min(at)))
			FROM (SELECT at FROM mark ORDER BY number $([ "$1" != last ] || echo DESC)
				  $([ "$1" = all ] || echo "LIMIT $part")) part"
}

# The drain writes its marks; which rates they tell of follows as CASE=WHICH.
drain()
{
	local system=$1 rate
	shift

	sql -c "TRUNCATE mark" -c CHECKPOINT
	"${system}_drain" mark >/dev/null
	for rate in "$@"; do
		sample backlog "${rate%=*}" "$system" "$(rate_of "${rate#*=}")"
	done
}

fill()
{
	local system=$1 count=$2 left

	if [ "$system" = outbox ]; then
		# by millions, so that no single segment is the whole
		for ((left = count; left > 0; left -= 1000000)); do
			outbox_fill "$((left < 1000000 ? left : 1000000))"
		done
		FILLED=$count
	else
		"${system}_fill" "$count"
	fi
}

measure()
{
	local system=$1 many=$PEER_BACKLOG

	[ "$system" != outbox ] || many=$BACKLOG
	for ROUND in 1 2 3; do
		fill "$system" "$SMALL_BACKLOG"
		drain "$system" "few waiting=all"
	done
	ROUND=1

	fill "$system" "$many"
	if [ "$system" = outbox ]; then
		FILLED=$SMALL_BACKLOG
		for ROUND in 1 2 3; do
			drain outbox "newest alone=all"
		done
		ROUND=1
		FILLED=$many
	fi
	drain "$system" "many waiting=all" oldest=first last=last

	[ "$system" = outbox ] || fill "$system" "$many"
	hold_open
	drain "$system" "many, open=all" "last, open=last"
	let_go
}

rounds 1 measure
