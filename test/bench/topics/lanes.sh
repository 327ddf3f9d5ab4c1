# A handler that takes 5 milliseconds, in lanes.
#
# shellcheck shell=bash

systems outbox
table lanes "Lanes: a handler that takes 5 milliseconds" "events a second" higher "case:1 lane"
note lanes "One lane can handle at most 200 events a second. A hash assigns keys to lanes, so the fullest lane limits the rate."

sql -c "CREATE FUNCTION handle_slowly(event outbox.event) RETURNS void LANGUAGE plpgsql AS
		'BEGIN PERFORM pg_sleep(0.005); END'"

measure()
{
	local lanes count time

	for lanes in 1 2 4 8; do
		count=$((LANE_EVENTS * lanes))
		outbox_fill "$count"
		time=$(milliseconds "SELECT outbox.subscribe('lanes', handler => 'handle_slowly',
				concurrency => $lanes, start => (outbox.head() - $count + 1)::text)" \
			"DO \$\$ BEGIN ASSERT outbox.wait('lanes', '1 hour'); END \$\$")
		sql -c "SELECT outbox.unsubscribe('lanes')" >/dev/null
		sample lanes "$lanes lane$([ "$lanes" = 1 ] || echo s)" outbox "$(calculate "$count * 1000 / $time")"
	done
}

rounds "$(((ROUNDS + 1) / 2))" measure
