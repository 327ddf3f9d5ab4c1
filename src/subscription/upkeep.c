/*
 * Cleaning up after subscriptions and lanes that are gone.
 *
 * unsubscribe() deletes a bounded number of rows, and none where a lane is
 * being served; and lanes divided anew may be fewer.  A row of progress marks
 * what is left, so it goes last; and of those the last lane's first.
 *
 * The sequencer cleans up, between two looks for new events: so in steps, each
 * a transaction of its own that goes on where the last one stopped.  Going on
 * by index, not from the beginning, matters while a snapshot is held: what was
 * deleted before would be walked over again.
 *
 * Locks: the subscription's own, so that nobody makes lanes meanwhile.  A lane
 * whose lock is free once is free for good: a process that takes it later
 * finds the subscription or the lane gone.
 */
#include "postgres.h"

#include "access/xact.h"

#include "base/compat.h"
#include "catalog/delivery.h"
#include "catalog/names.h"
#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "catalog/window.h"
#include "dispatch/lane.h"
#include "subscription/upkeep.h"

/* What a step deletes, and how many subscriptions it looks at, at most. */
#define OBX_REMNANT_ROWS			2000
#define OBX_REMNANT_SUBSCRIPTIONS	100

/* Where the work on a subscription stands. */
typedef struct Place
{
	Oid			catalog;		/* OID of outbox.subscription: another one has
								 * the same numbers */
	int32		subscription;
	int64		position;		/* deliveries before are deleted */
	int32		last_lane;		/* so is the progress of lanes behind */
} Place;

static Place place;				/* as of this step */
static Place committed;			/* as of the last one that committed */
static ObxWindowPlace window;	/* windows up to it are deleted; none after an
								 * abort */
static int32 looked_at = 0;		/* the subscription looked at last */

static void
end_step(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT)
		committed = place;
	else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		place = committed;
		obx_window_place_reset(&window);
	}
}

/* Lanes can have come and gone again since the last ones were deleted. */
static void
go_to(int32 subscription, int32 last_lane)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(end_step, NULL);
	registered = true;
	if (place.subscription == subscription && place.catalog == obx_object_require(OBX_SUBSCRIPTION))
	{
		place.last_lane = Max(place.last_lane, last_lane);
		return;
	}
	place.catalog = obx_object_require(OBX_SUBSCRIPTION);
	place.subscription = subscription;
	obx_window_place_reset(&window);
	place.position = PG_INT64_MIN;
	place.last_lane = PG_INT32_MAX;
}

/* Is none of the lanes from one on being served, and nobody changing them? */
static bool
are_free(int32 subscription, int32 first, int32 last)
{
	if (!obx_subscription_lock_nowait(subscription))
		return false;
	for (int32 lane = first; lane <= last; lane++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!obx_lane_lock(subscription, lane, false))
			return false;
		obx_lane_unlock(subscription, lane);
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

/*
 * Deletes what is behind the lanes that remain, the progress last; true if
 * there is more.
 */
static bool
delete_rows(int32 subscription, int remaining, int budget)
{
	int			deleted;

	if (remaining == 0)
	{
		deleted = obx_window_delete_some(subscription, &window, budget);
		if (deleted < 0)
			return false;
		budget -= deleted;
		budget -= obx_delivery_delete_some(subscription, &place.position, budget);
		if (budget <= 0)
			return true;
		obx_failure_delete(subscription);
	}
	deleted = obx_progress_delete_some(subscription, remaining, &place.last_lane, budget);
	return deleted >= budget;
}

/* The transaction may go back to a savepoint: no place is kept. */
void
obx_upkeep_begin(int32 subscription)
{
	place.subscription = 0;
	go_to(subscription, PG_INT32_MAX);
	(void) delete_rows(subscription, 0, OBX_REMNANT_ROWS);
	place.subscription = 0;
}

bool
obx_upkeep_clean(void)
{
	obx_lane_lock_tables();
	for (int i = 0; i < OBX_REMNANT_SUBSCRIPTIONS; i++)
	{
		int32		subscription = looked_at;
		int32		last_lane;
		int			remaining;

		if (!obx_progress_next(&subscription, &last_lane))
		{
			looked_at = 0;
			return false;
		}
		remaining = count_lanes(subscription);
		if (last_lane >= remaining && are_free(subscription, remaining, last_lane) &&
			count_lanes(subscription) == remaining)
		{
			go_to(subscription, last_lane);
			if (delete_rows(subscription, remaining, OBX_REMNANT_ROWS))
				return true;
		}
		looked_at = subscription;
	}
	return true;
}
