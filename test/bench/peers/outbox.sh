# pg_outbox, with its workers.
#
# shellcheck shell=bash

outbox_label() { echo "pg_outbox"; }

outbox_missing()
{
	psql -XqAtc "SHOW shared_preload_libraries" | grep -q pg_outbox ||
		echo "pg_outbox is not in shared_preload_libraries"
}

# With a partition for now, as every log has but in its first seconds: the
# default one has one index more.
outbox_install() { sql -f peers/outbox.sql -c "CALL outbox.run()"; }

outbox_capture() { sql -c "SELECT outbox.capture('$1')" >/dev/null; }

# Until the sequencer is through, and what is subscribed has had it.
outbox_settle() { [ "$(sql -c "SELECT outbox.wait(NULL, '1 hour')")" = t ]; }

# Captured rows, so the events are what they are in life; the table itself
# leaves no WAL.
outbox_fill()
{
	sql -c "SELECT outbox.capture('filled', operations => '{insert}', key => '{id}')
			WHERE NOT EXISTS (SELECT FROM outbox.capture_rule WHERE relation = 'filled'::regclass)" \
		-c "INSERT INTO filled SELECT * FROM rows_to_insert($1)" \
		-c "TRUNCATE filled" >/dev/null
	outbox_settle
	FILLED=$1
}

# outbox_drain HANDLER [LANES]: the newest events that outbox_fill made
outbox_drain()
{
	milliseconds "SELECT outbox.subscribe('drain', handler => 'event_$1',
				start => (outbox.head() - $FILLED + 1)::text, concurrency => ${2:-1})" \
		"DO \$\$ BEGIN ASSERT outbox.wait('drain', '1 hour'); END \$\$"
	sql -c "SELECT outbox.unsubscribe('drain')" >/dev/null
}

# The same in two lanes.
outbox_lanes_label() { echo "pg_outbox, 2 lanes"; }
outbox_lanes_missing() { outbox_missing; }
outbox_lanes_install() { outbox_install; }
outbox_lanes_drain() { outbox_drain "$1" 2; }

outbox_publish() { echo "SELECT outbox.publish('Measured', key => \$1::text)"; }

outbox_serve() { sql -c "SELECT outbox.subscribe('stamp', handler => 'stamp')" >/dev/null; }
outbox_rest() { sql -c "SELECT outbox.unsubscribe('stamp')" >/dev/null; }

# The same with a subscription that notifies, in place of one that calls.
outbox_notify_label() { echo "pg_outbox, NOTIFY subscription"; }
outbox_notify_missing() { outbox_missing; }
outbox_notify_install() { outbox_install; }

outbox_notify_capture()
{
	outbox_capture "$1"
	sql -c "SELECT outbox.subscribe('notify', '{$1.*}', channel => 'bench')" >/dev/null
}

outbox_notify_settle() { outbox_settle; }
outbox_notify_publish() { outbox_publish; }
outbox_notify_serve() { sql -c "SELECT outbox.subscribe('stamp', channel => 'bench')" >/dev/null; }
outbox_notify_rest() { outbox_rest; }
