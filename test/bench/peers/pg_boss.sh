# pg-boss: jobs in a table, a worker in Node that polls.
#
# shellcheck shell=bash

pg_boss_label() { echo "pg-boss"; }
pg_boss_missing() { has_module pg-boss || echo "pg-boss is not installed (npm)"; }
pg_boss_node() { NODE_PATH=$BENCH_NODE_MODULES PGDATABASE=$BENCH_DATABASE exec node peers/pg_boss.js "$@"; }
pg_boss_install() { (pg_boss_node install) && sql -f peers/pg_boss.sql; }

pg_boss_capture()
{
	sql -c "CREATE TRIGGER job AFTER INSERT OR UPDATE ON $1
			FOR EACH ROW EXECUTE FUNCTION add_boss_job()"
}

pg_boss_settle() { sql -c "TRUNCATE pgboss.job"; }

pg_boss_fill()
{
	pg_boss_settle
	sql -c "INSERT INTO pgboss.job (name, data) SELECT 'bench', to_jsonb(row) FROM rows_to_insert($1) row" \
		-c "ANALYZE pgboss.job"
}

# The program times itself: Node's start is not counted.
pg_boss_drain() { (pg_boss_node drain "$1"); }

pg_boss_publish()
{
	echo "INSERT INTO pgboss.job (name, data) VALUES ('bench', jsonb_build_object('id', \$1::text))"
}

pg_boss_serve()
{
	pg_boss_settle
	pg_boss_node serve >"$WORK_DIR/pg_boss.ready" 2>"$WORK_DIR/pg_boss.log" &
	SERVER=$!
	until grep -q ready "$WORK_DIR/pg_boss.ready" 2>/dev/null; do
		kill -0 "$SERVER" || return 1
		sleep 0.1
	done
}

pg_boss_rest() { end_of "$SERVER"; }
