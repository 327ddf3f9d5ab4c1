/*
 * From which position on events are still needed, and what is needed no more.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "catalog/window.h"
#include "dispatch/lane.h"
#include "dispatch/needed.h"
#include "log/generation.h"

int64
obx_needed_from(void)
{
	int64		needed = PG_INT64_MAX;
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		ObxSubscription *subscription = lfirst(lc);
		int64		oldest = obx_delivery_oldest(subscription->id);

		if (oldest > 0)
			needed = Min(needed, oldest);
		for (int lane = 0; lane < subscription->concurrency; lane++)
		{
			ObxProgress progress;

			if (obx_progress_find(subscription->id, lane, &progress))
				needed = Min(needed, progress.position + 1);
		}
	}
	return needed;
}

/* Locks a subscription's lanes from one on; false if one is still being served. */
static bool
lock_lanes(const List *lanes, int32 subscription, int32 first)
{
	ListCell   *lc;

	foreach(lc, lanes)
	{
		const ObxProgress *progress = lfirst(lc);

		if (progress->subscription == subscription && progress->lane >= first &&
			!obx_lane_lock(subscription, progress->lane, false))
			return false;
	}
	return true;
}

/* The lanes that the subscription has now; none, if it is gone. */
static int
count_lanes(int32 id)
{
	const ObxSubscription *subscription = obx_subscription_find(id);

	return subscription == NULL ? 0 : subscription->concurrency;
}

/* The sequencer calls this: it must not wait for anybody's transaction. */
int64
obx_remnants_clean(void)
{
	List	   *lanes = obx_progress_list();
	int64		deleted = 0;
	int64		windows;
	ListCell   *lc;

	foreach(lc, lanes)
	{
		const ObxProgress *progress = lfirst(lc);
		int			remaining = count_lanes(progress->subscription);

		/*
		 * the first lane that is not there any more stands for those behind
		 * it
		 */
		if (progress->lane != remaining ||
			!lock_lanes(lanes, progress->subscription, remaining) ||
			count_lanes(progress->subscription) != remaining)
			continue;
		if (remaining == 0 && !obx_window_delete_all(progress->subscription, false, &windows))
			break;
		if (!obx_progress_delete(progress->subscription, remaining))
			break;
		deleted++;
		if (remaining > 0)
			continue;
		deleted += obx_delivery_delete_all(progress->subscription);
		obx_failure_delete(progress->subscription);
	}
	return deleted;
}

/* In a copy, every handler would do again what it does in the original. */
static void
pause_all(void)
{
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		ObxSubscription *subscription = lfirst(lc);

		if (subscription->paused)
			continue;
		subscription->paused = true;
		obx_subscription_update(subscription);
	}
	obx_doorbell_arm_configuration();
}

void
obx_dispatch_init(void)
{
	obx_generation_at_copy = pause_all;
}
