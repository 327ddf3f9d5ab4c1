/*
 * The life of a subscription: made, changed, paused, resumed, removed.
 *
 * Workers learn of each change when the transaction commits.  Must not know
 * arguments of SQL functions, nor rights.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/names.h"
#include "catalog/progress.h"
#include "dispatch/lane.h"
#include "log/generation.h"
#include "log/segment.h"
#include "subscription/divide.h"
#include "subscription/lifecycle.h"
#include "subscription/upkeep.h"

/* ---- making ---- */

void
obx_lifecycle_pin_retention(void)
{
	LockRelationOid(obx_object_require(OBX_EVENT), RowShareLock);
}

/*
 * A snapshot of the transactions that have ended now, with our own listed as
 * running: PostgreSQL's snapshots do not list it, but the events of the
 * transaction that subscribes are wanted.
 */
static Datum
make_start_snapshot(void)
{
	ObxXidSnapshot *snapshot;
	uint64		xid = obx_generation_own_xid_if_any();
	Datum		result;

	PushActiveSnapshot(GetLatestSnapshot());
	snapshot = obx_generation_snapshot();
	PopActiveSnapshot();

	if (xid != 0 && obx_xid_snapshot_has_ended(snapshot, xid))
	{
		int			i = snapshot->nrunning++;

		snapshot->running = repalloc(snapshot->running,
									 (snapshot->nrunning + 1) * sizeof(uint64));
		for (; i > 0 && snapshot->running[i - 1] > xid; i--)
			snapshot->running[i] = snapshot->running[i - 1];
		snapshot->running[i] = xid;
		snapshot->xmin = Min(snapshot->xmin, xid);
	}
	result = obx_xid_snapshot_to_datum(snapshot);
	return result;
}

int64
obx_lifecycle_start_now(ObxSubscription *subscription)
{
	/* in this order: what gets a position in between had ended */
	int64		head = obx_segment_head(NULL);

	subscription->start_snapshot = make_start_snapshot();
	return head + 1;
}

void
obx_lifecycle_create(ObxSubscription *subscription)
{
	obx_subscription_insert(subscription);
	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxProgress progress = {
			.subscription = subscription->id,
			.lane = lane,
			.position = subscription->first_position - 1
		};

		obx_progress_advance(&progress);
	}
	obx_doorbell_arm_configuration();
}

/* ---- changing ---- */

void
obx_lifecycle_change(const ObxSubscription *old, ObxSubscription *new)
{
	if (obx_divide_is_needed(old, new))
		obx_divide_lanes(old, new);
	obx_subscription_update(new);
	(void) obx_failure_clear(new->id);
	obx_doorbell_arm_configuration();
}

void
obx_lifecycle_set_paused(ObxSubscription *subscription, bool paused)
{
	if (subscription->paused == paused)
		return;
	obx_subscription_set_paused(subscription, paused, GetUserNameFromId(GetUserId(), false));
	obx_subscription_update(subscription);
	obx_doorbell_arm_configuration();
}

/* ---- removing ---- */

/*
 * With the subscription's row its name is free, and nothing of it is shown any
 * more.  There may be a million rows of its lanes, deliveries and windows: the
 * first few go now, the others in steps of upkeep.  A lane that is being served
 * keeps its rows until then; its pass finds the subscription gone and undoes
 * its batch.
 */
void
obx_lifecycle_remove(ObxSubscription *subscription)
{
	bool		idle = true;

	obx_subscription_delete(subscription);
	for (int lane = 0; lane < subscription->concurrency && idle; lane++)
		idle = obx_lane_lock(subscription->id, lane, false);
	if (idle)
		obx_upkeep_begin(subscription->id);
	obx_doorbell_arm_configuration();
}
