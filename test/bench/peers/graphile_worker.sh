# graphile-worker: jobs in a table, a worker in Node.
#
# shellcheck shell=bash

graphile_worker_label() { echo "graphile-worker"; }

graphile_worker_missing()
{
	has_module graphile-worker || echo "graphile-worker is not installed (npm)"
}

graphile_worker_node() { NODE_PATH=$BENCH_NODE_MODULES PGDATABASE=$BENCH_DATABASE exec node peers/graphile_worker.js "$@"; }
graphile_worker_install() { (graphile_worker_node install) && sql -f peers/graphile_worker.sql; }

graphile_worker_capture()
{
	sql -c "CREATE TRIGGER job AFTER INSERT OR UPDATE ON $1
			FOR EACH ROW EXECUTE FUNCTION add_graphile_job()"
}

graphile_worker_settle() { sql -c "TRUNCATE graphile_worker._private_jobs"; }

graphile_worker_fill()
{
	graphile_worker_settle
	sql -c "SELECT count(graphile_worker.add_job('insert', to_json(row))) FROM rows_to_insert($1) row" \
		-c "ANALYZE graphile_worker._private_jobs" >/dev/null
}

# The program times itself: Node's start is not counted.
graphile_worker_drain() { (graphile_worker_node drain "$1"); }

graphile_worker_publish()
{
	echo "SELECT graphile_worker.add_job('stamp', json_build_object('id', \$1::text))"
}

graphile_worker_serve()
{
	graphile_worker_node serve >/dev/null 2>"$WORK_DIR/graphile_worker.log" &
	SERVER=$!
	until_true "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query ILIKE 'LISTEN \"jobs:insert\"%')"
}

graphile_worker_rest() { end_of "$SERVER"; }
