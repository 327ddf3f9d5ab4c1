/*
 * Leaving a log alone that is being loaded.
 *
 * A restore that is not one transaction shows half of the log: events whose
 * segments are still to come, progress whose subscriptions are.  Nothing says
 * when it is over; so the sequencer waits until pg_restore has left the
 * database, and nothing has been written to our tables for a while.  A session
 * that emits an event or subscribes meanwhile shows that it is over, and so
 * does outbox.run().
 *
 * A load may begin between a look and what is done after it.  Therefore the
 * look is only for patience; that nothing is done to a log that is being loaded
 * is up to obx_generation_leave_loaded(), which is exact.
 *
 * After the first event nothing can be loaded, and no process looks any more.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/generation.h"
#include "worker/loading.h"
#include "worker/process.h"

/* Nothing must have been written for so long; statistics come a second late. */
#define QUIET_INTERVAL (3 * USECS_PER_SEC)

/* How often to look. */
#define LOOK_INTERVAL (USECS_PER_SEC / 2)

/* What one look finds. */
typedef struct Look
{
	ObxInstalled installed;
	bool		is_settled;		/* an event was emitted: it is over for good */
	bool		is_loaded;
	bool		is_restoring;	/* pg_restore is connected */
	bool		is_written;		/* somebody writes to our tables this moment */
	int64		written;		/* changes with what is written */
} Look;

static Datum
get_value(int column)
{
	bool		isnull;

	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
}

/* Executes a query that returns one row, whose $1 is our schema. */
static void
ask(const char *query)
{
	Oid			type = OIDOID;
	Datum		schema = ObjectIdGetDatum(obx_schema_require());

	if (SPI_execute_with_args(query, 1, &type, &schema, NULL, true, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not execute \"%s\"", query);
}

static void
find_restore(Look *found)
{
	ask("SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a"
		" WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()"
		" AND a.application_name OPERATOR(pg_catalog.=) 'pg_restore')");
	found->is_restoring = DatumGetBool(get_value(1));
}

static void
find_writing(Look *found)
{
	ask("SELECT EXISTS (SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c"
		" ON c.oid OPERATOR(pg_catalog.=) l.relation"
		" WHERE l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d"
		" WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
		" AND c.relnamespace OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.=) 'r'"
		" AND l.mode OPERATOR(pg_catalog.=) 'RowExclusiveLock'"
		" AND l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()),"
		" (SELECT pg_catalog.sum(pg_catalog.pg_relation_size(c.oid)"
		" OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_tuples_inserted(c.oid))::pg_catalog.int8"
		" FROM pg_catalog.pg_class c WHERE c.relnamespace OPERATOR(pg_catalog.=) $1"
		" AND c.relkind OPERATOR(pg_catalog.=) 'r')");
	found->is_written = DatumGetBool(get_value(1));
	found->written = DatumGetInt64(get_value(2));
}

/* obx_process_run's step */
static void
look(void *arg)
{
	Look	   *found = arg;

	found->installed = obx_process_lock_extension();
	if (found->installed != OBX_INSTALLED)
		return;
	found->is_settled = obx_generation_is_settled();
	if (found->is_settled)
		return;
	found->is_loaded = obx_generation_is_loaded();

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	find_restore(found);
	/* an unused log is looked at for ever: not at all locks of the server */
	if (found->is_loaded)
		find_writing(found);
	SPI_finish();
	PopActiveSnapshot();
}

/* Has nothing been written for long enough? */
static bool
is_quiet(const Look *found, TimestampTz now)
{
	static int64 written = -1;
	static TimestampTz since = 0;

	if (found->is_restoring || found->is_written || found->written != written || since > now)
	{
		written = found->written;
		since = now;
	}
	return now - since >= QUIET_INTERVAL;
}

ObxLoading
obx_loading_look(TimestampTz now, TimestampTz *next)
{
	static ObxFailures failures = {.what = "could not tell whether the log is being restored"};
	static bool over = false;
	Look		found = {0};

	if (over)
		return OBX_LOADING_OVER;
	obx_generation_leave_loaded(true);
	*next = now + LOOK_INTERVAL;
	if (!obx_process_run(look, &found, &failures))
		return OBX_LOADING_UNDER_WAY;
	/* the caller finds out by itself */
	if (found.installed != OBX_INSTALLED)
		return OBX_LOADING_NONE;
	over = found.is_settled || (found.is_loaded && is_quiet(&found, now));
	if (over)
	{
		obx_generation_leave_loaded(false);
		return OBX_LOADING_OVER;
	}
	return found.is_loaded || found.is_restoring ? OBX_LOADING_UNDER_WAY : OBX_LOADING_NONE;
}
