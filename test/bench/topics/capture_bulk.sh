# What capture costs where one statement writes many rows.
#
# shellcheck shell=bash

systems bare outbox statement_trigger row_trigger pgq notify wal2json graphile_worker pg_boss
table bulk "Capture in bulk: $ROWS rows of six columns in one statement" \
	"microseconds a row" lower bare
note bulk "All systems capture the same rows; graphile-worker and pg-boss only the first hundredth of them."
note bulk "pg_outbox also keeps the former values of changed columns; the others keep the new row."
note bulk "wal2json reads the change after the statement, in another process."

sql -c "COPY (SELECT * FROM rows_to_insert($ROWS)) TO '$WORK_DIR/rows'" \
	-c "COPY (SELECT * FROM rows_to_insert($ROWS / 100)) TO '$WORK_DIR/few_rows'"
for system in "${SYSTEMS[@]}"; do
	sql -c "CREATE TABLE bulk_$system (LIKE bare INCLUDING ALL)"
	"${system}_capture" "bulk_$system"
done

# one CASE SYSTEM ROWS STATEMENT: on a table that has just been written out
one()
{
	local time

	sql -c CHECKPOINT
	time=$(milliseconds "$4")
	sample bulk "$1" "$2" "$(calculate "$time * 1000 / $3")"
}

measure()
{
	local system=$1 target=bulk_$1 rows=$ROWS file=$WORK_DIR/rows

	case $system in
		graphile_worker | pg_boss)
			rows=$((ROWS / 100))
			file=$WORK_DIR/few_rows
			;;
	esac
	hook "$system" begin "$target"
	sql -c "TRUNCATE $target"
	one "INSERT SELECT" "$system" "$rows" "INSERT INTO $target SELECT * FROM rows_to_insert($rows)"
	"${system}_settle"
	sql -c "TRUNCATE $target"
	one COPY "$system" "$rows" "COPY $target FROM '$file'"
	"${system}_settle"
	one UPDATE "$system" "$rows" "UPDATE $target SET status = 'paid', amount = amount + 1"
	"${system}_settle"
	hook "$system" end
}

rounds "$ROUNDS" measure
