/*
 * The outcome of an event in a subscription, as far as it is known.
 *
 * Success leaves no record of its own, so this is put together: a row in
 * outbox.delivery says what is open or dead.  Otherwise the lane's position
 * says whether the event has been dealt with, and the versions of its progress
 * that are kept say when: the one that came past the event is its batch's, and
 * the one that ended its row in outbox.delivery, if it had one, names it.  No
 * record says that a filter left an event out.  If the batch delivered
 * nothing, it did not deliver this event; otherwise the filter is evaluated as
 * it is now, if it runs no code of a user.
 *
 * Must not know who asks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/progress.h"
#include "dispatch/filter.h"
#include "dispatch/former_lanes.h"
#include "dispatch/lane.h"
#include "dispatch/match.h"
#include "log/find.h"
#include "log/xid_snapshot.h"
#include "subscription/outcome.h"

/* What is known of a lane. */
typedef struct FollowedLane
{
	bool		loaded;
	bool		found;			/* it has progress */
	ObxProgress progress;
	int			npassages;
	ObxPassage *passages;		/* from the newest on */
} FollowedLane;

struct ObxOutcomes
{
	const ObxSubscription *subscription;
	List	   *history;
	ObxXidSnapshot *start;		/* NULL for none */
	bool		filter_opened;
	ObxFilter  *filter;			/* NULL for none, or one that cannot be asked */
	int64		oldest_delivery;	/* lowest position with a row, 0: none */
	FollowedLane *lanes;
};

ObxOutcomes *
obx_outcome_open(const ObxSubscription *subscription)
{
	ObxOutcomes *follower = palloc0(sizeof(ObxOutcomes));

	follower->subscription = subscription;
	follower->history = obx_former_lanes_list(subscription);
	if (subscription->start_snapshot != (Datum) 0)
		follower->start = obx_xid_snapshot_from_datum(subscription->start_snapshot);
	follower->oldest_delivery = obx_delivery_oldest(subscription->id);
	follower->lanes = palloc0(subscription->concurrency * sizeof(FollowedLane));
	return follower;
}

static FollowedLane *
load_lane(ObxOutcomes *follower, int number)
{
	FollowedLane *lane = &follower->lanes[number];
	int32		subscription = follower->subscription->id;

	if (!lane->loaded)
	{
		lane->found = obx_progress_find(subscription, number, &lane->progress);
		if (lane->found)
			obx_progress_load(&lane->progress);
		lane->passages = obx_progress_history(subscription, number, &lane->npassages);
		lane->loaded = true;
	}
	return lane;
}

int64
obx_outcome_position(ObxOutcomes *follower, int lane)
{
	return load_lane(follower, lane)->progress.position;
}

/* ---- exceptions ---- */

static bool
has_position(const int64 *positions, int count, int64 position)
{
	for (int i = 0; i < count; i++)
		if (positions[i] == position)
			return true;
	return false;
}

/* Fills in what the event's row in outbox.delivery says; false if it has none. */
static bool
find_exception(ObxOutcomes *follower, const FollowedLane *lane, int64 position,
			   ObxOutcome *outcome)
{
	const ObxProgress *progress = &lane->progress;
	ObxDelivery *delivery;

	if (follower->oldest_delivery == 0 || position < follower->oldest_delivery)
		return false;
	delivery = obx_delivery_find(follower->subscription->id, position);
	if (delivery == NULL)
		return false;

	outcome->delivery = delivery;
	outcome->attempts = delivery->attempts;
	switch (delivery->state)
	{
		case OBX_DELIVERY_RETRY:
			outcome->state = OBX_OUTCOME_RETRYING;
			if (obx_progress_is_leased(progress) &&
				has_position(progress->retries.list, progress->retries.count, position))
			{
				outcome->state = OBX_OUTCOME_HANDED_OUT;
				outcome->until = progress->lease_until;
			}
			break;
		case OBX_DELIVERY_PARKED:
			outcome->state = OBX_OUTCOME_PARKED;
			break;
		case OBX_DELIVERY_DEAD:
			outcome->state = OBX_OUTCOME_DEAD;
			outcome->at = delivery->failed_at;
			break;
	}
	return true;
}

/* Fills in how an exception has ended; false if no record of that is kept. */
static bool
find_settled(const FollowedLane *lane, int64 position, ObxOutcome *outcome)
{
	for (int i = 0; i < lane->npassages; i++)
	{
		const ObxPassage *passage = &lane->passages[i];

		for (int j = 0; j < passage->nsettled; j++)
		{
			int64		attempts = passage->settled[j].attempts;

			if (passage->settled[j].position != position)
				continue;
			outcome->at = passage->time;
			if (attempts == OBX_SETTLED_FILTERED)
				outcome->state = OBX_OUTCOME_FILTERED;
			else if (attempts == OBX_SETTLED_DISCARDED)
				outcome->state = OBX_OUTCOME_DISCARDED;
			else
			{
				outcome->state = OBX_OUTCOME_DELIVERED;
				outcome->attempts = (int) attempts;
			}
			return true;
		}
	}
	return false;
}

/* ---- the normal case ---- */

/* Did the event pass the filter?  1 for yes, 0 for no, -1: not known. */
static int
ask_filter(ObxOutcomes *follower, const ObxReadEvent *event)
{
	const ObxSubscription *subscription = follower->subscription;
	TupleTableSlot *slot;
	int			answer = -1;

	if (subscription->filter == NULL)
		return 1;
	slot = obx_event_make_slot();
	if (!follower->filter_opened)
	{
		follower->filter = obx_filter_open_plain(subscription,
												 CreateTupleDescCopy(slot->tts_tupleDescriptor));
		follower->filter_opened = true;
	}
	if (follower->filter != NULL &&
		obx_event_find(GetActiveSnapshot(), event->xid, event->id, event->position, slot))
	{
		HeapTuple	tuple = ExecCopySlotHeapTuple(slot);

		answer = obx_filter_ask(follower->filter, tuple);
		heap_freetuple(tuple);
	}
	ExecDropSingleTupleTableSlot(slot);
	return answer;
}

/* Of an event in a batch that delivered something. */
static void
find_delivered(ObxOutcomes *follower, const ObxReadEvent *event, TimestampTz time,
			   ObxOutcome *outcome)
{
	switch (ask_filter(follower, event))
	{
		case 1:
			outcome->state = OBX_OUTCOME_DELIVERED;
			outcome->at = time;
			outcome->attempts = time != 0 ? 1 : -1;
			break;
		case 0:
			outcome->state = OBX_OUTCOME_FILTERED;
			break;
		default:
			outcome->state = OBX_OUTCOME_PASSED;
			break;
	}
}

/* Of an event that the lane has dealt with and that was no exception. */
static void
find_passage(ObxOutcomes *follower, const FollowedLane *lane, const ObxReadEvent *event,
			 ObxOutcome *outcome)
{
	int64		position = event->position;

	outcome->attempts = -1;
	for (int i = 0; i + 1 < lane->npassages; i++)
	{
		const ObxPassage *passage = &lane->passages[i];
		const ObxPassage *former = &lane->passages[i + 1];

		/* the last time that the lane came past it */
		if (position <= former->position || position > passage->position)
			continue;
		if (passage->delivered > former->delivered)
			find_delivered(follower, event, passage->time, outcome);
		else
			outcome->state = follower->subscription->filter == NULL ? OBX_OUTCOME_PASSED :
				OBX_OUTCOME_FILTERED;
		return;
	}
	find_delivered(follower, event, 0, outcome);
}

/* Has the lane not come to the event, or does a consumer have it? */
static bool
is_ahead(const FollowedLane *lane, int64 position, ObxOutcome *outcome)
{
	const ObxProgress *progress = &lane->progress;

	if (position <= progress->position)
		return false;
	/* of what a pull consumer's lane has read, what is not owed was acked */
	if (progress->owed.count > 0 && position <= progress->read_position &&
		!has_position(progress->owed.list, progress->owed.count, position))
		return false;

	outcome->state = OBX_OUTCOME_PENDING;
	if (obx_progress_is_leased(progress) &&
		has_position(progress->owed.list, progress->nhanded, position))
	{
		outcome->state = OBX_OUTCOME_HANDED_OUT;
		outcome->until = progress->lease_until;
	}
	return true;
}

void
obx_outcome_find(ObxOutcomes *follower, const ObxReadEvent *event, ObxOutcome *outcome)
{
	const ObxSubscription *subscription = follower->subscription;
	FollowedLane *lane;
	ObxOrderKey key;

	memset(outcome, 0, sizeof(ObxOutcome));
	if (!obx_subscription_wants_event(subscription, event->slot))
		return;
	outcome->state = OBX_OUTCOME_EARLIER;
	if (follower->start != NULL && obx_xid_snapshot_has_ended(follower->start, event->xid))
		return;
	outcome->state = OBX_OUTCOME_PENDING;
	if (event->position == 0)
		return;

	obx_lane_key_of_event(subscription, event->slot, &key);
	outcome->lane = obx_lane_of_event(subscription->concurrency, key, event->id);
	lane = load_lane(follower, outcome->lane);
	if (!lane->found || find_exception(follower, lane, event->position, outcome) ||
		is_ahead(lane, event->position, outcome) ||
		find_settled(lane, event->position, outcome))
		return;
	find_passage(follower, lane, event, outcome);

	/*
	 * where lanes were divided anew, or moved, former ones may have dealt
	 * with it
	 */
	if (outcome->at == 0 && event->position < subscription->first_position)
	{
		obx_event_key(event->slot, &key);
		if (!obx_former_lanes_has(follower->history, true, event->position, event->id,
								  key) &&
			!obx_former_lanes_has(follower->history, false, event->position, event->id,
								  key))
			outcome->state = OBX_OUTCOME_EARLIER;
	}
}

const char *
obx_outcome_name(ObxOutcomeState state)
{
	switch (state)
	{
		case OBX_OUTCOME_UNWANTED:
		case OBX_OUTCOME_EARLIER:
			return NULL;
		case OBX_OUTCOME_PENDING:
			return "pending";
		case OBX_OUTCOME_HANDED_OUT:
			return "handed out";
		case OBX_OUTCOME_RETRYING:
			return "retrying";
		case OBX_OUTCOME_PARKED:
			return "parked";
		case OBX_OUTCOME_DEAD:
			return "dead";
		case OBX_OUTCOME_DELIVERED:
			return "delivered";
		case OBX_OUTCOME_FILTERED:
			return "filtered";
		case OBX_OUTCOME_DISCARDED:
			return "discarded";
		case OBX_OUTCOME_PASSED:
			return "passed";
	}
	return NULL;
}
