/*
 * The first position that is still needed: retention keeps events from there on.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "log/generation.h"
#include "subscription/retention_floor.h"

int64
obx_retention_floor(void)
{
	int64		oldest_needed = PG_INT64_MAX;
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		ObxSubscription *subscription = lfirst(lc);
		int64		oldest = obx_delivery_oldest(subscription->id);

		if (oldest > 0)
			oldest_needed = Min(oldest_needed, oldest);
		for (int lane = 0; lane < subscription->concurrency; lane++)
		{
			ObxProgress progress;

			if (obx_progress_find(subscription->id, lane, &progress))
				oldest_needed = Min(oldest_needed, progress.position + 1);
		}
	}
	return oldest_needed;
}

/* In a copied database, each handler would repeat what it does in the original. */
static void
pause_all(void)
{
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		ObxSubscription *subscription = lfirst(lc);

		if (subscription->paused)
			continue;
		obx_subscription_set_paused(subscription, true, NULL);
		obx_subscription_update(subscription);
	}
	obx_doorbell_arm_configuration();
}

void
obx_retention_floor_init(void)
{
	obx_generation_at_copy = pause_all;
}
