# The same operation with little and with much beside it.
#
# shellcheck shell=bash

record label little "with little"
record label much "with much"
table scale "Scale: the same with much beside it" "milliseconds" lower little
note scale "What is beside it heads a column: five events get their positions, or what is said before the comma is done; five events fail where a snapshot is held."
note scale "Little and much: ten, and $SCALE, of what is said; of lanes, partitions and subscriptions at most $SCALE_OBJECTS, of open transactions a tenth of that. Each operation is done $SCALE_TIMES times in sessions that have just begun."

# timed STATEMENT: milliseconds of one, the median of some, each in a session of
# its own that has done something else before.
timed()
{
	local i

	for ((i = 0; i < SCALE_TIMES; i++)); do
		sql -c "SELECT outbox.head()" -c '\timing on' -c "$1" | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1
	done | sort -n | sed -n "$(((SCALE_TIMES + 1) / 2))p"
}

# both CASE PREPARE STATEMENT: PREPARE is a function of a number
both()
{
	local system count

	for system in little much; do
		count=10
		[ "$system" = little ] || count=$SCALE
		systems outbox
		ROUND=1
		"$2" "$count" >/dev/null
		sample scale "$1" "$system" "$(timed "$3")"
		[ -z "${4:-}" ] || "$4"
	done
}

# objects COUNT: no more than can be made in reasonable time
objects() { [ "$1" -le "$SCALE_OBJECTS" ] && echo "$1" || echo "$SCALE_OBJECTS"; }

settled() { outbox_settle; sql -c "VACUUM ANALYZE outbox.segment, outbox.progress, outbox.delivery"; }

position="DO \$\$ BEGIN FOR i IN 1..5 LOOP PERFORM outbox.publish('One'); COMMIT; PERFORM outbox.wait(NULL, '1 minute'); COMMIT; END LOOP; END \$\$"

# ---- the log ----

with_events() { sql -c "SELECT count(outbox.publish('Many')) FROM generate_series(1, $1)"; settled; }
with_segments()
{
	sql -c "DO \$\$ BEGIN FOR i IN 1..$(objects "$1") * 5 LOOP PERFORM outbox.publish('One'); COMMIT; IF i % 5 = 0 THEN PERFORM outbox.wait(NULL, '1 minute'); END IF; COMMIT; END LOOP; END \$\$"
	settled
}
with_partitions()
{
	sql -c "CALL outbox.run()" -c "DO \$\$ BEGIN FOR day IN 1..$(objects "$1") LOOP
			EXECUTE format('CREATE TABLE outbox.event_p_%s (LIKE outbox.event INCLUDING DEFAULTS)', day);
			EXECUTE format('CREATE INDEX ON outbox.event_p_%s (xid, id)', day);
			EXECUTE format('ALTER TABLE outbox.event ATTACH PARTITION outbox.event_p_%s FOR VALUES FROM (%L) TO (%L)',
				day, timestamptz '2015-01-01' + day * interval '1 day', timestamptz '2015-01-02' + day * interval '1 day');
		END LOOP; END \$\$"
	settled
}
with_open()
{
	local i wanted

	wanted=$((($(objects "$1") + 9) / 10))
	for ((i = 0; i < wanted; i++)); do
		sql -c "BEGIN" -c "SELECT outbox.publish('Open')" -c "SELECT pg_sleep(100000) /* left open */" >/dev/null 2>&1 &
	done
	until_true "SELECT count(*) = $wanted FROM pg_stat_activity
				WHERE query LIKE '%/* left open */' AND pid <> pg_backend_pid()"
}
close_open()
{
	sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE query LIKE '%/* left open */' AND pid <> pg_backend_pid()" >/dev/null
	wait
}

both "events" with_events "$position"
both "segments" with_segments "$position"
both "partitions" with_partitions "$position"
both "open transactions" with_open "$position" close_open
both "read, segments" with_segments "SELECT count(*) FROM outbox.read(outbox.head() - 10, 10)"
both "position_of, segments" with_segments "SELECT outbox.position_of(max(id)) FROM outbox.read(outbox.head() - 1, 1)"

# ---- subscriptions ----

with_subscriptions()
{
	sql -c "CREATE FUNCTION nothing(event outbox.event) RETURNS void LANGUAGE sql AS 'SELECT'" \
		-c "SELECT outbox.subscribe('one', '{One}', handler => 'nothing')" \
		-c "SELECT outbox.subscribe('pull' || i, '{Other}') FROM generate_series(1, $(objects "$1")) i"
	settled
}
with_lanes()
{
	sql -c "CREATE FUNCTION nothing(event outbox.event) RETURNS void LANGUAGE sql AS 'SELECT'" \
		-c "SELECT outbox.subscribe('one', '{One}', handler => 'nothing')" \
		-c "SELECT outbox.subscribe('wide', '{Other}', concurrency => $(objects "$1"))"
	settled
}
with_parked()
{
	sql -c "SELECT outbox.subscribe('pull', backoff => '1 hour')" \
		-c "SELECT count(outbox.publish('Many', key => 'parked')) FROM generate_series(1, $1)" \
		-c "SELECT count(outbox.publish('Many', key => 'other')) FROM generate_series(1, 100)"
	settled
	sql -c "SELECT outbox.nack('pull', receipt, position) FROM outbox.receive('pull', 1, '1 hour')" \
		-c "DO \$\$ BEGIN FOR i IN 1..$1 / 10000 + 1 LOOP
				PERFORM outbox.release('pull', receipt) FROM (SELECT max(receipt) AS receipt FROM outbox.receive('pull', 10000, '1 hour')) r WHERE receipt IS NOT NULL;
				COMMIT; END LOOP; END \$\$"
	settled
}
with_dead()
{
	sql -c "CREATE FUNCTION fail(event outbox.event) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'no'; END \$\$" \
		-c "SELECT outbox.subscribe('fails', handler => 'fail', max_attempts => 1)" \
		-c "SELECT count(outbox.publish('Many')) FROM generate_series(1, $(objects "$1") * 5)"
	settled
}
with_held() { hold_open; with_dead "$1"; }
receive="WITH event AS MATERIALIZED (SELECT * FROM outbox.receive('pull', 1, '1 hour')) SELECT outbox.ack('pull', receipt, position) FROM event"

both "subscriptions" with_subscriptions "$position"
both "lanes" with_lanes "$position"
both "receive, parked" with_parked "$receive"
both "redrive, dead" with_dead "SELECT outbox.redrive('fails', min(position)) FROM outbox.read(0, 1)"
both "unsubscribe, dead" with_dead "SELECT outbox.unsubscribe(name) FROM (SELECT name FROM outbox.subscription LIMIT 1) s"
both "failures, held snapshot" with_held "$position" let_go

# ---- nobody waits ----

record label sessions "longest publish of 4 sessions"
table longest "Longest publish of 4 sessions" "milliseconds" lower
note longest "While that happens; 'nothing' shows the machine. The large transaction has $((SCALE * 10)) events."

echo "SELECT outbox.publish('Measured', key => :client_id::text)" >"$WORK_DIR/publish.pgbench"

# longest CASE STATEMENT: of 4 sessions while the statement runs, and before
longest()
{
	rm -f "$WORK_DIR"/longest.*
	pgbench -n -M prepared -c 4 -j 1 -R 200 -T "$SCALE_SECONDS" -l --log-prefix="$WORK_DIR/longest" \
		-f "$WORK_DIR/publish.pgbench" "$BENCH_DATABASE" >/dev/null 2>&1 &
	sql -c "SELECT pg_sleep($SCALE_SECONDS / 4.0)" -c "$2" >/dev/null
	wait $!
	# what pgbench began late because it was late itself counts from when it began
	sample longest "$1" sessions "$(awk '{ t = ($3 - $7) / 1000; if (t > m) m = t } END { printf "%.3f\n", m }' "$WORK_DIR"/longest.*)"
}

systems outbox
sql -c "CREATE TABLE rows (i integer)" -c "SELECT outbox.capture('rows', key => '{}')" >/dev/null
ROUND=1
longest "nothing" "SELECT 1"
longest "large transaction" "INSERT INTO rows SELECT generate_series(1, $SCALE * 10)"
longest "it is rolled back" "DO \$\$ BEGIN INSERT INTO rows SELECT generate_series(1, $SCALE * 10); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END \$\$"
sql -c "ALTER SYSTEM SET outbox.partition_interval = '1s'" -c "SELECT pg_reload_conf()" >/dev/null
longest "partitions" "CALL outbox.run()"
sql -c "ALTER SYSTEM SET outbox.retention = '1s'" -c "SELECT pg_reload_conf()" >/dev/null
longest "retention" "SELECT outbox.apply_retention()"
sql -c "ALTER SYSTEM RESET outbox.retention" -c "ALTER SYSTEM RESET outbox.partition_interval" -c "SELECT pg_reload_conf()" >/dev/null
ROUND=0
