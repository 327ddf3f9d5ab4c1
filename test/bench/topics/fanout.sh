# What many subscriptions cost.
#
# shellcheck shell=bash

systems outbox
table fanout "Fan-out: $ROWS ready events to many subscriptions with a handler that does nothing" \
	"microseconds an event" lower one
note fanout "Wall clock, and CPU of the whole server."
note fanout "The test with 100 matching subscriptions has a tenth of the events."

# arrangement NAME LABEL SUBSCRIPTIONS MATCHING EVENTS
arrangement()
{
	local name=$1 count=$3 matching=$4 events=$5 cpu time

	[ "$ROUND" -gt 1 ] || record label "$name" "$2"
	cpu=$(cpu_milliseconds)
	time=$(milliseconds "
		SELECT count(outbox.subscribe('fan' || g, handler => 'event_nothing',
			types => CASE WHEN g <= $matching THEN '{filled.*}' ELSE '{other.*}' END::text[],
			start => (outbox.head() - $events + 1)::text))
		FROM generate_series(1, $count) g" \
		"DO \$\$ BEGIN ASSERT outbox.wait(NULL, '1 hour'); END \$\$")
	cpu=$(($(cpu_milliseconds) - cpu))
	sql -c "SELECT count(outbox.unsubscribe(name)) FROM outbox.status" >/dev/null
	sample fanout wall "$name" "$(calculate "$time * 1000 / $events")"
	sample fanout CPU "$name" "$(calculate "$cpu * 1000 / $events")"
}

measure()
{
	outbox_fill "$ROWS"
	sql -c CHECKPOINT
	arrangement one "1 subscription" 1 1 "$ROWS"
	arrangement ten_one "10, of which 1 matches" 10 1 "$ROWS"
	arrangement ten_all "10, all match" 10 10 "$ROWS"
	arrangement hundred_one "100, of which 1 matches" 100 1 "$ROWS"
	arrangement hundred_all "100, all match" 100 100 "$((ROWS / 10))"
}

rounds "$ROUNDS" measure
