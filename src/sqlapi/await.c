/*
 * outbox.await(): until outbox.receive() would hand something out.
 *
 * It looks as receive() would, in a transaction of its own, which is undone
 * where something is found, and else keeps what reading on has found out: what
 * the filter left out is not read again.  Between two looks there is neither a
 * snapshot nor anything else that others would wait for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/waiter.h"
#include "emit/context.h"
#include "pull/handout.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_await);

#define MS(n) ((int64) (n) * 1000)

/* Where nobody wakes us: between two looks, a part of what it has taken so far. */
#define OBX_AWAIT_FIRST	MS(10)
#define OBX_AWAIT_LAST	MS(500)
#define OBX_AWAIT_PART	16

/* Where somebody does: a wake-up may get lost. */
#define OBX_AWAIT_SLOW	MS(5000)

#define OBX_AWAIT_TIMEOUT MS(20000)

typedef struct Await
{
	MemoryContext memory;		/* for one look */
	text	   *name;
	TimestampTz start;			/* by obx_clock_now(), as is the next */
	TimestampTz end;
	bool		is_woken;
} Await;

static void
check_context(FunctionCallInfo fcinfo)
{
	if (obx_context_current() != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox.await() cannot be called in a handler"),
				 errdetail("It would wait in the middle of a delivery."),
				 errhint("Call it in another session.")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("outbox.await() cannot run inside a transaction block"),
				 errdetail("It would hold the transaction for as long as it waits."),
				 errhint("CALL it outside of BEGIN ... COMMIT, functions and blocks with EXCEPTION.")));
}

/* SPI_rollback() expects no active snapshot but a portal's. */
static void
undo(void)
{
	Snapshot	portals = ActivePortal != NULL ? ActivePortal->portalSnapshot : NULL;

	while (ActiveSnapshotSet() && GetActiveSnapshot() != portals)
		PopActiveSnapshot();
	SPI_rollback();
}

/* One look; *next is when to look again if nobody wakes us, microseconds from now. */
static bool
look(const Await *await, int64 *next)
{
	MemoryContext old = MemoryContextSwitchTo(await->memory);
	ObxSubscription *subscription;
	bool		found;

	subscription = obx_argument_require_pull(text_to_cstring(await->name), "outbox.await()");
	found = obx_handout_is_ready(subscription, next);
	MemoryContextSwitchTo(old);
	MemoryContextReset(await->memory);
	if (found)
		undo();
	else
		SPI_commit();
	return found;
}

static int64
longest_pause(const Await *await, TimestampTz now)
{
	if (await->is_woken)
		return OBX_AWAIT_SLOW;
	return Min(Max((now - await->start) / OBX_AWAIT_PART, OBX_AWAIT_FIRST), OBX_AWAIT_LAST);
}

static bool
wait_for_events(const Await *await)
{
	for (;;)
	{
		TimestampTz now;
		int64		next = PG_INT64_MAX;
		int64		pause;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (look(await, &next))
			return true;
		now = obx_clock_now();
		if (now >= await->end)
			return false;
		pause = Min(Min(next, longest_pause(await, now)), await->end - now);
		/* nothing of a transaction is left that anybody would wait for */
		pgstat_report_xact_timestamp(0);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pause / 1000 + 1, PG_WAIT_EXTENSION);
	}
}

static Datum
make_result(FunctionCallInfo fcinfo, bool ready)
{
	TupleDesc	tupdesc;
	Datum		values[1] = {BoolGetDatum(ready)};
	bool		nulls[1] = {false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "outbox.await() must return a row");
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls));
}

/*
 * await(subscription, timeout, ready)
 */
Datum
obx_sql_await(PG_FUNCTION_ARGS)
{
	Await		await = {.start = obx_clock_now()};
	int64		timeout = OBX_AWAIT_TIMEOUT;
	bool		ready = false;

	check_context(fcinfo);
	obx_argument_require(fcinfo, 0, "subscription");
	if (!PG_ARGISNULL(1))
		timeout = obx_argument_require_interval(fcinfo, 1, "timeout");
	await.end = await.start + timeout;

	SPI_connect_ext(SPI_OPT_NONATOMIC);
	await.name = PG_GETARG_TEXT_P_COPY(0);
	await.memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox await",
										 ALLOCSET_DEFAULT_SIZES);
	SPI_commit();
	PG_TRY();
	{
		await.is_woken = obx_waiter_enter();
		ready = wait_for_events(&await);
	}
	PG_FINALLY();
	{
		obx_waiter_leave();
	}
	PG_END_TRY();
	SPI_finish();
	return make_result(fcinfo, ready);
}
