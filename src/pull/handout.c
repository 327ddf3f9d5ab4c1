/*
 * Handing out events to consumers that pull.
 *
 * Locks: the lane's, without waiting, and given back at once where nothing is
 * taken.  Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/waiter.h"
#include "catalog/names.h"
#include "catalog/sequence.h"
#include "log/generation.h"
#include "pull/blame.h"
#include "pull/collect.h"
#include "pull/handout.h"
#include "pull/lane.h"
#include "pull/receipt.h"
#include "pull/undone.h"

static int64
make_receipt(int64 former)
{
	int64		receipt = nextval_internal(obx_object_require(OBX_RECEIPT_SEQ), false);

	if (receipt > former)
		return receipt;
	obx_sequence_raise(OBX_RECEIPT_SEQ, former);
	return nextval_internal(obx_object_require(OBX_RECEIPT_SEQ), false);
}

/* It is the caller's, for so long. */
static void
hold(ObxPullLane *work, int64 lease)
{
	ObxProgress *progress = &work->progress;

	progress->receiver = obx_generation_own_xid();
	if (lease != OBX_HANDOUT_NO_LEASE)
		progress->lease_until = GetCurrentTimestamp() + lease;
	progress->noted_at = GetCurrentTimestamp();
	progress->holder = pstrdup(application_name != NULL ? application_name : "");
	progress->holder_pid = MyProcPid;
	work->changed = true;
}

/* The batch is handed out from now on, under the lane's receipt. */
static void
hand_out(ObxPullLane *work, ObxHandout *handout)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;
	int			count = batch->nitems;

	if (batch->is_retry)
		obx_positions_add(&progress->retries, obx_collect_positions(batch), count);
	else
		progress->nhanded += count;

	handout->receipt = progress->receipt;
	handout->nevents = count;
	handout->events = palloc(count * sizeof(ObxTargetEvent));
	for (int i = 0; i < count; i++)
		handout->events[i] = batch->items[i].event;
}

/* Without a lease, the end of the transaction ends it; those who wait want to know. */
static void
note_holding(const ObxPullLane *work)
{
	if (work->progress.lease_until != DT_NOBEGIN)
		return;
	obx_undone_note(&work->progress);
	obx_waiter_arm();
}

/* Finds out what is next in the lane, whose lock is held and which nobody has. */
static bool
look_ahead(ObxPullLane *work, int max_events)
{
	ObxProgress *progress = &work->progress;

	obx_progress_load(progress);
	if (obx_pull_lane_handed(progress) > 0)
		obx_blame_handout(work);
	/* one that has run out is refused for ever */
	if (!obx_pull_lane_is_ended(progress))
		progress->receipt = 0;
	obx_pull_lane_end(progress);
	obx_undone_blame(work);
	return obx_collect_next(work, max_events);
}

/* Hands out something of the lane, if there is anything. */
static bool
serve_lane(ObxPullLane *work, int max_events, int64 lease, ObxHandout *handout)
{
	int64		former = work->progress.receipt;
	bool		found = look_ahead(work, max_events);

	if (found)
	{
		work->progress.receipt = make_receipt(former);
		hold(work, lease);
		hand_out(work, handout);
		note_holding(work);
	}
	if (work->changed)
		obx_pull_lane_write(work);
	return found;
}

/* Reads the lane again under its lock; false if nothing may be taken from it. */
static bool
is_free(ObxPullLane *work, int32 id, int lane)
{
	work->subscription = obx_subscription_find(id);
	return work->subscription != NULL && !work->subscription->paused &&
		work->subscription->kind == OBX_KIND_PULL &&
		lane < work->subscription->concurrency &&
		obx_progress_find(id, lane, &work->progress) &&
		!obx_pull_lane_is_out(&work->progress) && obx_pull_lane_is_visible(&work->progress);
}

static int
compare_positions(const ListCell *a, const ListCell *b)
{
	const ObxProgress *one = lfirst(a);
	const ObxProgress *other = lfirst(b);

	if (one->position != other->position)
		return one->position < other->position ? -1 : 1;
	return one->lane - other->lane;
}

/* The lanes, those that are farthest behind first. */
static List *
list_lanes(const ObxSubscription *subscription)
{
	List	   *lanes = NIL;

	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxProgress *progress = palloc(sizeof(ObxProgress));

		if (obx_progress_find(subscription->id, lane, progress))
			lanes = lappend(lanes, progress);
	}
	list_sort(lanes, compare_positions);
	return lanes;
}

bool
obx_handout_receive(const ObxSubscription *subscription, int max_events, int64 lease,
					ObxHandout *handout)
{
	ListCell   *lc;

	obx_lane_lock_tables();
	foreach(lc, list_lanes(subscription))
	{
		const ObxProgress *progress = lfirst(lc);
		ObxPullLane work = {0};

		CHECK_FOR_INTERRUPTS();
		if (obx_pull_lane_is_out(progress) || !obx_lane_lock(subscription->id, progress->lane, false))
			continue;
		if (is_free(&work, subscription->id, progress->lane) &&
			serve_lane(&work, max_events, lease, handout))
			return true;
		if (!work.changed)
			obx_lane_unlock(subscription->id, progress->lane);
	}
	return false;
}

/* Somebody has the lane's lock: until the transaction ends, of which nobody tells us. */
#define OBX_HANDOUT_LOCKED_AGAIN (20 * 1000)

/* An event that is due but cannot be had yet is looked for after this time. */
#define OBX_HANDOUT_DUE_AGAIN (50 * 1000)

static void
lower_next(int64 *next, TimestampTz until)
{
	int64		wait = until - GetCurrentTimestamp();

	if (until != DT_NOEND && until != DT_NOBEGIN)
		*next = Min(*next, Max(wait, OBX_HANDOUT_DUE_AGAIN));
}

static bool
lane_is_ready(const ObxSubscription *subscription, const ObxProgress *progress, int64 *next)
{
	ObxPullLane work = {0};

	if (obx_pull_lane_is_out(progress))
	{
		lower_next(next, progress->lease_until);
		return false;
	}
	if (!obx_lane_lock(subscription->id, progress->lane, false))
	{
		*next = Min(*next, OBX_HANDOUT_LOCKED_AGAIN);
		return false;
	}
	if (!is_free(&work, subscription->id, progress->lane))
	{
		/* it may be a snapshot that is too old */
		if (IsolationUsesXactSnapshot())
			*next = Min(*next, OBX_HANDOUT_LOCKED_AGAIN);
		return false;
	}
	if (look_ahead(&work, 1))
		return true;
	lower_next(next, obx_lane_due(work.lane));
	if (work.changed)
		obx_pull_lane_write(&work);
	return false;
}

bool
obx_handout_is_ready(const ObxSubscription *subscription, int64 *next)
{
	ListCell   *lc;

	foreach(lc, list_lanes(subscription))
	{
		CHECK_FOR_INTERRUPTS();
		if (lane_is_ready(subscription, lfirst(lc), next))
			return true;
	}
	return false;
}

bool
obx_handout_go_on(const ObxSubscription *subscription, int64 receipt, int max_events,
				  int64 lease, ObxHandout *handout)
{
	ObxPullLane work = {0};
	bool		found;

	obx_receipt_require(&work, subscription, receipt, true);
	found = !work.subscription->paused && work.progress.lane < work.subscription->concurrency &&
		obx_collect_next(&work, max_events);
	if (found || lease != OBX_HANDOUT_NO_LEASE)
		hold(&work, lease);
	if (found)
	{
		hand_out(&work, handout);
		note_holding(&work);
	}
	if (work.changed)
		obx_pull_lane_write(&work);
	return found;
}
