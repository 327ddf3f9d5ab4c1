/*
 * Dead letters: back to delivery, or away.
 *
 * A redriven event is a retry like any other; where an event of its key is
 * open before it, it waits behind that, and those after it wait behind it.
 * What was delivered of its key since is not repeated.
 *
 * Locks: those of the lanes concerned, in the order of their numbers, until
 * the transaction ends; a batch under way is waited for.
 *
 * Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "dispatch/dead_letter.h"
#include "dispatch/lane.h"

/* What is to be known of it later goes into *progress. */
typedef void (*ChangeDelivery) (ObxDelivery *delivery, ObxProgress *progress);

static void
redrive(ObxDelivery *delivery, ObxProgress *progress)
{
	delivery->state = OBX_DELIVERY_RETRY;
	delivery->open = true;
	delivery->attempts = 0;
	delivery->next_at = GetCurrentTimestamp();
	obx_delivery_update(delivery);
}

static void
discard(ObxDelivery *delivery, ObxProgress *progress)
{
	obx_progress_settle(progress, delivery->position, OBX_SETTLED_DISCARDED);
	obx_delivery_delete(delivery->subscription, delivery->position);
}

/* Changes those of one lane, under its lock; all, or the one at a position. */
static int64
change_lane(const ObxSubscription *subscription, int lane, int64 position,
			ChangeDelivery change)
{
	ObxProgress progress = {0};
	bool		has_progress;
	int64		count = 0;
	ListCell   *lc;

	obx_lane_lock(subscription->id, lane, true);
	has_progress = obx_progress_find(subscription->id, lane, &progress);
	foreach(lc, obx_delivery_list(subscription->id))
	{
		ObxDelivery *delivery = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (delivery->lane != lane || delivery->state != OBX_DELIVERY_DEAD ||
			(position != 0 && delivery->position != position))
			continue;
		change(delivery, &progress);
		count++;
	}
	if (count == 0)
		return 0;

	obx_lane_settle_rows(subscription, lane);
	/* what dispatchers know of the lane is not so any more */
	if (has_progress)
		obx_progress_advance(&progress);
	return count;
}

static void
report_none(const ObxSubscription *subscription, int64 position)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("position " INT64_FORMAT " is no dead letter of subscription \"%s\"",
					position, subscription->name),
			 errdetail("It was delivered or discarded, is not exhausted, or was never the subscription's."),
			 errhint("The view outbox.dead_letter lists them.")));
}

static int64
change_all(const ObxSubscription *subscription, int64 position, ChangeDelivery change)
{
	Bitmapset  *lanes = NULL;
	int			lane = -1;
	int64		count = 0;
	ListCell   *lc;

	foreach(lc, obx_delivery_list(subscription->id))
	{
		const ObxDelivery *delivery = lfirst(lc);

		if (delivery->state == OBX_DELIVERY_DEAD &&
			(position == 0 || delivery->position == position))
			lanes = bms_add_member(lanes, delivery->lane);
	}
	while ((lane = bms_next_member(lanes, lane)) >= 0)
		count += change_lane(subscription, lane, position, change);

	if (position != 0 && count == 0)
		report_none(subscription, position);
	if (count > 0)
		obx_doorbell_arm_configuration();
	return count;
}

int64
obx_dead_letter_redrive(const ObxSubscription *subscription, int64 position)
{
	return change_all(subscription, position, redrive);
}

int64
obx_dead_letter_discard(const ObxSubscription *subscription, int64 position)
{
	return change_all(subscription, position, discard);
}
