/*
 * CALL outbox.run(): what the workers do, in the foreground; and
 * outbox.apply_retention().
 *
 * A procedure that ends transactions does so through SPI.  It takes the same
 * locks as the workers, so that both can be at work.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "tcop/pquery.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "base/identity.h"
#include "base/listener.h"
#include "base/waiter.h"
#include "catalog/names.h"
#include "catalog/registered_type.h"
#include "catalog/subscription.h"
#include "dispatch/guest.h"
#include "dispatch/pass.h"
#include "emit/context.h"
#include "emit/scheduled.h"
#include "log/generation.h"
#include "log/retention.h"
#include "sequencer/announcement.h"
#include "sequencer/sequencer.h"
#include "sqlapi/argument.h"
#include "subscription/retention_floor.h"
#include "worker/housekeeping.h"

PG_FUNCTION_INFO_V1(obx_sql_run);
PG_FUNCTION_INFO_V1(obx_sql_apply_retention);
PG_FUNCTION_INFO_V1(obx_sql_generation);

/* A lane of the caller's, as run() goes round. */
typedef struct RunLane
{
	int32		subscription;
	int			lane;
	bool		done;			/* nothing more to do in this call of run() */
} RunLane;

typedef struct Run
{
	MemoryContext memory;		/* lives across transactions */
	int64		left;			/* events that may still be handled, 0 is no
								 * bound */
	List	   *lanes;
} Run;

/* ---- transactions ---- */

/*
 * SPI has begun one.  After SET ROLE, a handler of that role could go back to
 * the session's with RESET ROLE: no change of roles until the transaction ends.
 */
static void
begin_transaction(void)
{
	obx_identity_pin();
}

/* Removes objects that handlers have left in the session: they are not the caller's. */
static void
commit_transaction(void)
{
	SPI_commit();
	obx_guest_abandon();
}

/* SPI_rollback() expects no active snapshot but a portal's; an error leaves ours. */
static void
abort_transaction(void)
{
	Snapshot	portals = ActivePortal != NULL ? ActivePortal->portalSnapshot : NULL;

	while (ActiveSnapshotSet() && GetActiveSnapshot() != portals)
		PopActiveSnapshot();
	SPI_rollback();
}

static const ObxTransactionOps foreground = {
	.begin = begin_transaction,
	.commit = commit_transaction,
	.abort = abort_transaction,
	.clear_session = obx_guest_clear,
	.abandon_session = obx_guest_abandon,
	.owns_session = false
};

/* ---- what run() does ---- */

/* Notes what the session has before handlers run in it. */
static void
be_guests(Run *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->memory);

	obx_guest_begin();
	MemoryContextSwitchTo(old);
}

static void
collect_lanes(Run *run)
{
	Oid			user = GetUserId();
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		ObxSubscription *subscription = lfirst(lc);

		if (subscription->owner != user || subscription->paused ||
			subscription->kind == OBX_KIND_PULL)
			continue;
		for (int i = 0; i < subscription->concurrency; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(run->memory);
			RunLane    *lane = palloc0(sizeof(RunLane));

			lane->subscription = subscription->id;
			lane->lane = i;
			run->lanes = lappend(run->lanes, lane);
			MemoryContextSwitchTo(old);
		}
	}
	SPI_commit();
}

/* Serves the lane once; returns how many events it dealt with. */
static int64
serve_lane(Run *run, RunLane *lane)
{
	ObxPassRequest request = {
		.subscription = lane->subscription,
		.lane = lane->lane,
		.max_events = run->left,
		.shared = list_length(run->lanes) > 1
	};
	ObxPassResult result;

	obx_pass_run(&foreground, &request, &result);
	if (result.outcome != OBX_PASS_MORE && result.outcome != OBX_PASS_IDLE)
		lane->done = true;
	return result.outcome == OBX_PASS_MORE ? Max(result.handled, 1) : result.handled;
}

/* Goes round all lanes once; returns how many events were dealt with. */
static int64
serve_lanes(Run *run, bool *exhausted)
{
	int64		handled = 0;
	ListCell   *lc;

	foreach(lc, run->lanes)
	{
		RunLane    *lane = lfirst(lc);
		int64		count;

		CHECK_FOR_INTERRUPTS();
		if (lane->done)
			continue;
		count = serve_lane(run, lane);
		handled += count;
		if (run->left > 0 && (run->left -= count) <= 0)
		{
			*exhausted = true;
			break;
		}
	}
	return handled;
}

/* A REASSIGN OWNED may have gone unnoticed: run() may be the first call in this session. */
static void
follow_owners(void)
{
	obx_registered_type_follow_owners();
	if (obx_subscription_follow_owners(false))
		obx_doorbell_arm_configuration();
	SPI_commit();
}

/* Moves what is due into the log. */
static void
move_due(void)
{
	ObxSchedulePlace place = {DT_NOBEGIN, 0};
	ObxScheduledMove result;

	do
	{
		obx_scheduled_move(&place, true, &result);
		SPI_commit();
	} while (result.more);
}

/* Wakes those who wait, and tells those who listen. */
static void
announce(int64 head)
{
	obx_waiter_wake();
	if (!obx_listener_note())
		return;
	(void) obx_listener_take();
	(void) obx_announcement_send(head, true);
	SPI_commit();
	obx_listener_forget();
}

/* Sequences and serves until there is nothing to do. */
static void
run_all(Run *run)
{
	ObxSequenced sequenced;
	int64		handled;
	bool		exhausted = false;

	do
	{
		move_due();
		obx_sequencer_append(true, &sequenced);
		SPI_commit();
		if (sequenced.events > 0)
			announce(sequenced.head);
		handled = serve_lanes(run, &exhausted);
	} while (!exhausted && (sequenced.events > 0 || handled > 0));
}

static void
check_context(FunctionCallInfo fcinfo)
{
	if (obx_context_current() != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox.run() cannot be called in a handler"),
				 errdetail("It would deliver in the middle of a delivery."),
				 errhint("Call it in another session.")));
	if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
		castNode(CallContext, fcinfo->context)->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("outbox.run() cannot run inside a transaction block"),
				 errdetail("It begins and commits transactions of its own."),
				 errhint("CALL it outside of BEGIN ... COMMIT, functions and blocks with EXCEPTION.")));
}

/*
 * run(max_events)
 */
Datum
obx_sql_run(PG_FUNCTION_ARGS)
{
	Run			run = {0};
	char	   *isolation = GetConfigOptionByName("default_transaction_isolation", NULL, false);
	char	   *version;

	PreventCommandIfReadOnly("outbox.run()");
	check_context(fcinfo);
	if (!PG_ARGISNULL(0))
		run.left = obx_argument_require_number(fcinfo, 0, "max_events", true, 1, PG_INT64_MAX);
	if (strcmp(isolation, "read committed") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox.run() needs read committed transactions"),
				 errdetail("default_transaction_isolation is \"%s\".", isolation),
				 errhint("SET default_transaction_isolation = 'read committed' first.")));

	if (!obx_extension_is_current(&version))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension pg_outbox has version %s, the library %s", version,
						obx_library_version()),
				 errhint("Run ALTER EXTENSION pg_outbox UPDATE, or begin a new session after installing the library.")));

	run.memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox run",
									   ALLOCSET_SMALL_SIZES);
	SPI_connect_ext(SPI_OPT_NONATOMIC);
	SPI_commit();
	PG_TRY();
	{
		be_guests(&run);
		follow_owners();
		obx_housekeeping_finish(SPI_commit);
		collect_lanes(&run);
		run_all(&run);
	}
	PG_FINALLY();
	{
		obx_guest_end();
		MemoryContextDelete(run.memory);
	}
	PG_END_TRY();
	SPI_finish();
	PG_RETURN_VOID();
}

/*
 * apply_retention()
 */
Datum
obx_sql_apply_retention(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.apply_retention()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox.apply_retention() needs a read committed transaction"),
				 errdetail("An older snapshot could miss events that have no position yet."),
				 errhint("Call it in a transaction of its own.")));
	PG_RETURN_INT32(obx_retention_apply(obx_retention_floor));
}

/*
 * generation()
 */
Datum
obx_sql_generation(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(obx_generation_number());
}
