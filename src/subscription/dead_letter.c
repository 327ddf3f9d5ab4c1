/*
 * Dead letters: back to delivery, or away; and one by one, those that await a
 * retry: now, or away.
 *
 * A redriven event is a retry like any other; where an event of its key is
 * open before it, it waits behind that, and those after it wait behind it.
 * Later events of its key that were delivered meanwhile are not repeated.
 *
 * Locks: those of the lanes concerned, in the order of their numbers, until
 * the transaction ends; a batch under way is waited for.
 *
 * Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "dispatch/attempts.h"
#include "dispatch/former_lanes.h"
#include "dispatch/lane.h"
#include "dispatch/match.h"
#include "dispatch/settle.h"
#include "log/event.h"
#include "log/find.h"
#include "log/read.h"
#include "subscription/dead_letter.h"

/* Versions of progress note discarded events, at most so many in each. */
#define OBX_SETTLED_NOTED 1000

typedef struct Change Change;

typedef void (*ChangeDelivery) (const Change *change, ObxDelivery *delivery,
								ObxProgress *progress);

struct Change
{
	const ObxSubscription *subscription;
	ChangeDelivery change;
	MemoryContext memory;		/* lives as long as this */
	Bitmapset  *lanes;			/* those with dead letters; locked */
	int			nprogress;
	ObxProgress *progress;		/* of lanes; what is to be known later goes
								 * there */
	int64		count;
};

/* Has the lane not dealt with the position: is it owed, or not read yet? */
static bool
is_ahead(const Change *change, int64 position, ObxProgress *progress)
{
	MemoryContext old;

	if (progress->version == 0 || position <= progress->position)
		return false;
	if (progress->owed.count == 0 || position > progress->read_position)
		return true;
	old = MemoryContextSwitchTo(change->memory);
	obx_progress_load(progress);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < progress->owed.count; i++)
		if (progress->owed.list[i] == position)
			return true;
	return false;
}

/*
 * After a seek back, does the lane come to the event by itself?  Then it must
 * not be delivered as a retry, too.  It does not come to what a former lane has
 * dealt with, nor to what is not asked for any more.
 */
static bool
comes_again(const Change *change, const ObxDelivery *delivery, ObxProgress *progress)
{
	const ObxSubscription *subscription = change->subscription;
	TupleTableSlot *event;
	bool		comes = false;

	if (!is_ahead(change, delivery->position, progress))
		return false;
	event = obx_event_make_slot();
	if (obx_event_find(GetActiveSnapshot(), delivery->xid, delivery->event_id,
					   delivery->position, event))
	{
		bool		isnull;
		ObxOrderKey key;
		text	   *type = DatumGetTextPP(slot_getattr(event, OBX_EVENT_TYPE + 1, &isnull));

		obx_event_key(event, &key);
		comes = obx_patterns_match(subscription->types, subscription->ntypes,
								   VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) &&
			!obx_former_lanes_has(obx_former_lanes_list(subscription), false, delivery->position,
								  delivery->event_id, key);
	}
	ExecDropSingleTupleTableSlot(event);
	return comes;
}

static void
redrive(const Change *change, ObxDelivery *delivery, ObxProgress *progress)
{
	if (comes_again(change, delivery, progress))
	{
		obx_delivery_delete(delivery->subscription, delivery->position);
		return;
	}
	/* what awaits a retry has it now, and no more attempts than before */
	if (delivery->state == OBX_DELIVERY_DEAD)
	{
		delivery->attempts = 0;
		obx_attempts_note_redrive(delivery);
	}
	delivery->state = OBX_DELIVERY_RETRY;
	delivery->open = true;
	delivery->next_at = GetCurrentTimestamp();
	obx_delivery_update(delivery);
}

/* A consumer that has it is not asked any more what became of it. */
static void
take_back(const ObxDelivery *delivery, ObxProgress *progress)
{
	if (progress->retries.count == 0)
		return;
	obx_progress_load(progress);
	if (obx_positions_find(&progress->retries, progress->retries.count, delivery->position) >= 0)
		obx_positions_take(&progress->retries, &delivery->position, 1);
}

static void
discard(const Change *change, ObxDelivery *delivery, ObxProgress *progress)
{
	MemoryContext old = MemoryContextSwitchTo(change->memory);

	obx_progress_record_outcome(progress, delivery->position, OBX_SETTLED_DISCARDED);
	take_back(delivery, progress);
	MemoryContextSwitchTo(old);
	obx_delivery_delete(delivery->subscription, delivery->position);
}

/* ObxDeliveryVisitor */
static bool
note_lane(ObxDelivery *delivery, void *arg)
{
	Change	   *change = arg;
	MemoryContext old;

	if (delivery->state != OBX_DELIVERY_DEAD || bms_is_member(delivery->lane, change->lanes))
		return true;
	old = MemoryContextSwitchTo(change->memory);
	change->lanes = bms_add_member(change->lanes, delivery->lane);
	change->nprogress = Max(change->nprogress, delivery->lane + 1);
	MemoryContextSwitchTo(old);
	return true;
}

/* Locks the lanes and reads how far they are. */
static void
lock_lanes(Change *change)
{
	int32		subscription = change->subscription->id;
	int			lane = -1;

	while ((lane = bms_next_member(change->lanes, lane)) >= 0)
		obx_lane_lock(subscription, lane, true);
	lane = -1;
	change->progress = palloc0(Max(change->nprogress, 1) * sizeof(ObxProgress));
	while ((lane = bms_next_member(change->lanes, lane)) >= 0)
		(void) obx_progress_find(subscription, lane, &change->progress[lane]);
}

/* A lane number may be one that no longer exists, after the lanes were divided again. */
static void
advance(ObxProgress *progress)
{
	if (progress->version > 0)
		obx_progress_advance(progress);
}

/* ObxDeliveryVisitor: changes what is dead in a lane that is locked. */
static bool
change_delivery(ObxDelivery *delivery, void *arg)
{
	Change	   *change = arg;
	ObxProgress *progress;

	if (delivery->state != OBX_DELIVERY_DEAD || !bms_is_member(delivery->lane, change->lanes))
		return true;
	progress = &change->progress[delivery->lane];
	change->change(change, delivery, progress);
	change->count++;
	if (progress->nsettled >= OBX_SETTLED_NOTED)
		advance(progress);
	return true;
}

static void
report_none(const ObxSubscription *subscription, int64 position, bool is_parked)
{
	if (is_parked)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("position " INT64_FORMAT " of subscription \"%s\" is parked", position,
						subscription->name),
				 errdetail("It waits for an event before it."),
				 errhint("Deal with that one: the view outbox.waiting says which one it is.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("position " INT64_FORMAT " is no dead letter of subscription \"%s\"",
					position, subscription->name),
			 errdetail("It was delivered or discarded, has not failed, or was never the subscription's."),
			 errhint("The views outbox.dead_letter and outbox.waiting list what has failed.")));
}

/*
 * One pass finds the lanes, a second one changes what is in them: neither the
 * number of dead letters nor that of lanes matters to the memory it takes.
 */
static int64
change_all(const ObxSubscription *subscription, ChangeDelivery what)
{
	Change		change = {
		.subscription = subscription,
		.change = what,
		.memory = CurrentMemoryContext
	};
	int			lane = -1;

	obx_delivery_visit(subscription->id, note_lane, &change);
	lock_lanes(&change);
	obx_delivery_visit(subscription->id, change_delivery, &change);
	while ((lane = bms_next_member(change.lanes, lane)) >= 0)
	{
		obx_settle_lane(subscription, lane);
		/* what dispatchers know of the lane is not so any more */
		advance(&change.progress[lane]);
	}
	return change.count;
}

/* The failed delivery at the position, with its lane locked; ereports if there is none. */
static ObxDelivery *
require_failed(const ObxSubscription *subscription, int64 position)
{
	ObxDelivery *delivery = obx_delivery_find(subscription->id, position);

	if (delivery != NULL)
	{
		/* the subscription is locked, so it stays in this lane */
		obx_lane_lock(subscription->id, delivery->lane, true);
		delivery = obx_delivery_find(subscription->id, position);
	}
	if (delivery == NULL || delivery->state == OBX_DELIVERY_PARKED)
		report_none(subscription, position, delivery != NULL);
	return delivery;
}

static int64
change_one(const ObxSubscription *subscription, int64 position, ChangeDelivery what)
{
	Change		change = {.subscription = subscription,.memory = CurrentMemoryContext};
	ObxDelivery *delivery = require_failed(subscription, position);
	ObxProgress progress = {0};

	(void) obx_progress_find(subscription->id, delivery->lane, &progress);
	what(&change, delivery, &progress);
	obx_settle_key(subscription, delivery);
	advance(&progress);
	return 1;
}

static int64
change(const ObxSubscription *subscription, int64 position, ChangeDelivery what)
{
	int64		count = position == 0 ? change_all(subscription, what) :
	change_one(subscription, position, what);

	if (count > 0)
		obx_doorbell_arm_configuration();
	return count;
}

int64
obx_dead_letter_redrive(const ObxSubscription *subscription, int64 position)
{
	return change(subscription, position, redrive);
}

int64
obx_dead_letter_discard(const ObxSubscription *subscription, int64 position)
{
	return change(subscription, position, discard);
}
