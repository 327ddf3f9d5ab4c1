# wal2json: no trigger; the change is decoded from WAL afterwards.
#
# shellcheck shell=bash

wal2json_label() { echo "wal2json"; }

wal2json_missing()
{
	if [ ! -e "$(pg_config --pkglibdir)/wal2json.so" ]; then
		echo "wal2json is not installed (postgresql-15-wal2json)"
	elif [ "$(psql -XqAtc 'SHOW wal_level')" != logical ]; then
		echo "wal_level is not logical"
	fi
}

# Newer minor versions trust no plugin that is not named.
wal2json_install()
{
	sql -f peers/wal2json.sql
	sql -c "SELECT 'ALTER DATABASE $BENCH_DATABASE SET output_plugin_libraries = wal2json'
			FROM pg_settings WHERE name = 'output_plugin_libraries'" | sql -f -
}

wal2json_slot()
{
	wal2json_rest
	sql -c "SELECT pg_create_logical_replication_slot('bench', 'wal2json')" >/dev/null
}

wal2json_read()
{
	exec pg_recvlogical -d "$BENCH_DATABASE" -S bench --start -f - -n \
		-o format-version=2 -o include-transaction=false -o "add-tables=public.$1"
}

wal2json_is_read()
{
	until_true "SELECT active FROM pg_replication_slots WHERE slot_name = 'bench'"
}

wal2json_capture() { :; }

# A reader that throws away what it reads, for as long as something is measured;
# a slot that nobody reads would keep WAL.
wal2json_begin()
{
	wal2json_slot
	wal2json_read "$1" >/dev/null 2>&1 &
	SERVER=$!
	wal2json_is_read
}

wal2json_end() { wal2json_rest; }
wal2json_settle() { :; }

wal2json_fill()
{
	wal2json_slot
	sql -c "INSERT INTO logged SELECT id FROM rows_to_insert($1)" -c "TRUNCATE logged"
}

wal2json_drain()
{
	milliseconds "CALL drain_wal2json_$1()"
	wal2json_rest
}

wal2json_publish() { echo "INSERT INTO logged VALUES (\$1::bigint)"; }

wal2json_serve()
{
	wal2json_slot
	wal2json_read logged 2>/dev/null |
		perl -MTime::HiRes=time -ne \
			'$| = 1; printf "%d\t%.6f\n", $1, time if /"value":(\d+)/' >"$WORK_DIR/wal2json" &
	SERVER=$!
	wal2json_is_read
}

# The reader's notes become rows, as the handlers of the others write them.
wal2json_collect()
{
	sql -c "TRUNCATE handled" \
		-c "CREATE TEMP TABLE note (id bigint, at float8)" \
		-c "\\copy note FROM '$WORK_DIR/wal2json'" \
		-c "INSERT INTO handled SELECT id, to_timestamp(at) FROM note"
}

# The reader ends with its connection; to end one side of a pipe of programs
# would leave the other.
wal2json_rest()
{
	sql -c "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
			WHERE slot_name = 'bench' AND active" >/dev/null
	until_true "SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = 'bench' AND active"
	sql -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
			WHERE slot_name = 'bench'" >/dev/null
	[ -z "${SERVER:-}" ] || wait "$SERVER" || true
	SERVER=
}
