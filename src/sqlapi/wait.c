/*
 * outbox.wait(): until everything committed before the call is handled.
 *
 * It looks at the log and at progress with new snapshots, whatever the
 * caller's isolation, and dispatches nothing itself.
 */
#include "postgres.h"

#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "emit/context.h"
#include "log/generation.h"
#include "log/segment.h"
#include "sequencer/sequencer.h"
#include "sqlapi/argument.h"
#include "sqlapi/behind.h"
#include "sqlapi/preload.h"
#include "worker/slot.h"

PG_FUNCTION_INFO_V1(obx_sql_wait);

/*
 * Milliseconds between looks: a part of what it has taken so far, so that
 * looking costs little and what is seen late is little against the whole.
 */
#define OBX_WAIT_FIRST	1
#define OBX_WAIT_LAST	20
#define OBX_WAIT_PART	64

typedef struct Wait
{
	char	   *name;			/* of one subscription, or NULL for all */
	ObxXidSnapshot *upto;		/* what had ended at the call */
	uint64		own;			/* the caller's transaction */
	int64		position;		/* the last position to be handled; -1: not
								 * known yet */
} Wait;

/* Is every event up to the position dealt with in the lane? */
static bool
lane_is_done(const ObxSubscription *subscription, int lane, int64 position)
{
	ObxProgress progress;

	if (!obx_progress_find(subscription->id, lane, &progress))
		return true;			/* removed meanwhile */
	return progress.position >= position &&
		!obx_delivery_is_waiting(subscription->id, lane, position);
}

static bool
subscription_is_done(const ObxSubscription *subscription, int64 position)
{
	for (int lane = 0; lane < subscription->concurrency; lane++)
		if (!lane_is_done(subscription, lane, position))
			return false;
	return true;
}

static bool
is_done(Wait *wait)
{
	ListCell   *lc;

	if (wait->position < 0)
	{
		if (obx_sequencer_is_behind(wait->upto, wait->own))
			return false;
		wait->position = obx_segment_head(NULL);
	}

	if (wait->name != NULL)
		return subscription_is_done(obx_subscription_require(wait->name), wait->position);
	foreach(lc, obx_subscription_list())
	{
		const ObxSubscription *subscription = lfirst(lc);

		if (subscription->kind != OBX_KIND_PULL && !subscription->paused &&
			!subscription_is_done(subscription, wait->position))
			return false;
	}
	return true;
}

/* What is said of a wait in vain: as many of those behind, and how many more. */
#define OBX_WAIT_NAMED 10

/* Names the subscriptions that are behind, and says why. */
static void
warn_of_behind(const Wait *wait)
{
	List	   *subscriptions;
	ListCell   *lc;
	StringInfoData out;
	int			behind = 0;

	initStringInfo(&out);
	if (wait->position < 0)
		obx_behind_explain_log(&out);
	subscriptions = wait->position < 0 ? NIL :
		wait->name != NULL ? list_make1(obx_subscription_require(wait->name)) :
		obx_subscription_list();
	foreach(lc, subscriptions)
	{
		const ObxSubscription *subscription = lfirst(lc);

		if ((wait->name == NULL && (subscription->kind == OBX_KIND_PULL || subscription->paused)) ||
			subscription_is_done(subscription, wait->position))
			continue;
		if (++behind > OBX_WAIT_NAMED)
			continue;
		appendStringInfoString(&out, behind > 1 ? "; " : "");
		obx_behind_explain(&out, subscription, wait->position);
	}
	if (behind > OBX_WAIT_NAMED)
		appendStringInfo(&out, "; %d more", behind - OBX_WAIT_NAMED);
	if (out.len > 0)
		ereport(WARNING,
				(errmsg("outbox.wait() has waited in vain"),
		/* what the server says of a role ends in a full stop already */
				 errdetail("%s%s", out.data, out.data[out.len - 1] == '.' ? "" : "."),
				 obx_slots == NULL ?
				 errhint("%s", obx_preload_hint()) : 0));
}

static void
begin_wait(Wait *wait)
{
	wait->own = obx_generation_own_xid_if_any();
	wait->position = -1;
	PushActiveSnapshot(GetLatestSnapshot());
	wait->upto = obx_generation_snapshot();
	PopActiveSnapshot();
}

/*
 * wait(subscription, timeout)
 */
Datum
obx_sql_wait(PG_FUNCTION_ARGS)
{
	Wait		wait = {.name = obx_argument_text(fcinfo, 0)};
	int64		timeout = obx_argument_require_interval(fcinfo, 1, "timeout");
	TimestampTz start = obx_clock_now();
	TimestampTz end = start + timeout;
	MemoryContext memory;
	bool		done;

	if (obx_context_current() != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("outbox.wait() cannot be called in a handler"),
				 errdetail("The handler's own event would never be handled."),
				 errhint("Call it in another session.")));
	if (wait.name != NULL)
		(void) obx_subscription_require(wait.name);
	begin_wait(&wait);

	memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox wait",
								   ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);
		TimestampTz now;
		int64		pause;

		CHECK_FOR_INTERRUPTS();
		done = is_done(&wait);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);

		now = obx_clock_now();
		if (done || now >= end)
			break;
		pause = Max((now - start) / 1000 / OBX_WAIT_PART, OBX_WAIT_FIRST);
		pause = Min(Min(pause, OBX_WAIT_LAST), (end - now) / 1000 + 1);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pause, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	MemoryContextDelete(memory);
	/* who asks without waiting wants to know just that */
	if (!done && timeout > 0)
		warn_of_behind(&wait);
	PG_RETURN_BOOL(done);
}
