/*
 * Collecting what a lane hands out next.
 *
 * Events are handed out in the order of the log: retries that are due, but not
 * before owed events with earlier positions, because these may have the same
 * key; then owed events; then new ones.  A consumer that goes on under a
 * receipt gets the events after those it has.
 *
 * Locks: the lane's.  Must not know receipts, nor who receives.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/identity.h"
#include "catalog/names.h"
#include "dispatch/filter.h"
#include "dispatch/session.h"
#include "pull/blame.h"
#include "pull/collect.h"

/*
 * Must the item wait for an open one?  New events come after all that are
 * open; one that is owed may be of the same key as a later one that was nacked.
 */
static bool
is_blocked(const ObxPullLane *work, const ObxItem *item, bool is_new)
{
	if (is_new)
		return obx_lane_is_blocked(work->lane, item->key);
	return obx_lane_is_blocked_at(work->lane, item->key,
								  item->event.position);
}

/* Going on behind a gap would hide it.  "from" 0: nobody knows where it is. */
static void
report_loss(const ObxPullLane *work, int64 from, int64 until)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("subscription \"%s\" lost events", work->subscription->name),
			 from == 0 ? errdetail("How far it has come is not known: the log and the progress of subscriptions were not restored together.") :
			 errdetail("Positions " INT64_FORMAT " to " INT64_FORMAT
					   " were dropped by outbox.max_retention before they were consumed.",
					   from, until),
			 errhint("outbox.seek() lets it go on.")));
}

/*
 * Asks the subscription's filter about the batch's items.  It runs with the
 * owner's rights, whoever the consumer is, and so that it can leave nothing
 * behind in the consumer's session.
 */
static void
filter_items(ObxPullLane *work)
{
	ObxBatch   *batch = work->batch;
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	ObxIdentity former;

	obx_identity_assume_path(&former, work->subscription->owner,
							 work->subscription->search_path);
	obx_session_hide_settings();
	batch->filter = obx_filter_open(batch->subscription,
									CreateTupleDescCopy(RelationGetDescr(log)));
	obx_batch_deliver(batch);
	batch->filter = NULL;
	obx_identity_restore(&former);
	table_close(log, AccessShareLock);
}

static void
mark_blocked(ObxPullLane *work, bool is_new)
{
	ObxBatch   *batch = work->batch;

	for (int i = 0; i < batch->nitems; i++)
		batch->items[i].state = is_blocked(work, &batch->items[i], is_new) ?
			OBX_ITEM_PARKED : OBX_ITEM_DONE;
	batch->reached = batch->nitems;
}

/*
 * Writes what becomes of the items that cannot be handed out; the batch is
 * left with those that can.
 */
static void
sift_items(ObxPullLane *work)
{
	ObxBatch   *batch = work->batch;
	int			left = 0;

	for (int i = 0; i < batch->reached; i++)
	{
		ObxItem    *item = &batch->items[i];

		if (item->state == OBX_ITEM_DONE)
		{
			batch->items[left++] = *item;
			continue;
		}
		obx_batch_write_item(batch, item, &work->progress);
		work->changed = true;
	}
	/* the rest is filled again */
	memset(&batch->items[left], 0, (batch->nitems - left) * sizeof(ObxItem));
	batch->nitems = left;
	batch->reached = 0;
}

/* Marks all but those lost as fit to be handed out. */
static void
leave_lost(ObxBatch *batch)
{
	for (int i = 0; i < batch->nitems; i++)
		if (batch->items[i].state != OBX_ITEM_LOST)
			batch->items[i].state = OBX_ITEM_DONE;
	batch->reached = batch->nitems;
	batch->has_lost = false;
}

/* Leaves out those that are handed out already. */
static void
leave_handed(ObxPullLane *work)
{
	const ObxPositions *handed = &work->progress.retries;
	ObxBatch   *batch = work->batch;
	int		   *places = palloc(Max(batch->nitems, 1) * sizeof(int));
	int			left = 0;

	for (int i = 0; i < batch->nitems; i++)
	{
		ObxItem    *item = &batch->items[i];

		places[i] = -1;
		if (obx_positions_find(handed, handed->count, item->event.position) >= 0)
			continue;
		if (item->behind >= 0)
			item->behind = places[item->behind];
		places[i] = left;
		batch->items[left++] = *item;
	}
	batch->nitems = left;
	pfree(places);
}

/* One whose consumers ended without a word is handed out alone. */
static void
leave_suspects(ObxPullLane *work)
{
	ObxBatch   *batch = work->batch;

	for (int i = 0; i < batch->nitems; i++)
	{
		const ObxDelivery *delivery = batch->items[i].delivery;

		if (delivery == NULL || !obx_blame_is_suspect(delivery))
			continue;
		if (i == 0 && obx_pull_lane_handed(&work->progress) > 0)
			work->must_drain = true;
		batch->nitems = i == 0 && !work->must_drain ? 1 : i;
	}
}

/* Retries are filtered, for it may be the filter that failed. */
static bool
collect_retries(ObxPullLane *work, int limit)
{
	ObxBatch   *batch = work->batch;
	int			failures;

	do
	{
		if (!obx_batch_collect_retries(batch, limit + work->progress.retries.count))
			return false;
		if (work->progress.retries.count > 0)
			leave_handed(work);
		if (batch->nitems == 0)
			return false;
		if (work->subscription->filter == NULL && !batch->has_lost)
			break;

		failures = batch->failures;
		if (work->subscription->filter != NULL)
			filter_items(work);
		else
			leave_lost(batch);
		sift_items(work);
		obx_lane_refresh_heads(work->lane);
	} while (batch->nitems == 0 && batch->failures == failures);
	batch->nitems = Min(batch->nitems, limit);
	leave_suspects(work);
	return batch->nitems > 0;
}

/* How many of those owed and not handed out do not have to wait for what is open. */
static int
count_servable(const ObxPullLane *work)
{
	const ObxPositions *owed = &work->progress.owed;
	int64		end = obx_lane_first_strict(work->lane);
	int			next = work->progress.nhanded;

	while (next < owed->count && owed->list[next] < end)
		next++;
	return next - work->progress.nhanded;
}

/* Of the next ones owed, only the batch's items still are. */
static void
leave_owed(ObxPullLane *work, int seen)
{
	ObxPositions *owed = &work->progress.owed;
	int			handed = work->progress.nhanded;
	const ObxBatch *batch = work->batch;
	int64	   *gone = palloc(seen * sizeof(int64));
	int			count = 0;
	int			next = 0;

	for (int i = 0; i < seen; i++)
	{
		int64		position = owed->list[handed + i];

		if (next < batch->nitems && batch->items[next].event.position == position)
			next++;
		else
			gone[count++] = position;
	}
	obx_positions_take(owed, gone, count);
	pfree(gone);
}

/* Takes from what is owed; true if anything can be handed out. */
static bool
collect_owed(ObxPullLane *work, int limit)
{
	ObxProgress *progress = &work->progress;
	int			servable;

	while ((servable = count_servable(work)) > 0)
	{
		const int64 *next = &progress->owed.list[progress->nhanded];
		int			seen;

		seen = obx_batch_collect_positions(work->batch, next, Min(servable, limit));
		if (work->batch->nitems < seen)
			report_loss(work, progress->position + 1, next[seen - 1]);
		mark_blocked(work, false);
		sift_items(work);

		if (work->batch->nitems < seen)
			leave_owed(work, seen);
		if (work->batch->nitems > 0)
			return true;
		obx_pull_lane_pass(progress);
	}
	return false;
}

/* Under "strict", is something open that comes before what is new? */
static bool
is_strictly_blocked(const ObxPullLane *work)
{
	int64		position;
	int64		id;

	obx_pull_lane_place(&work->progress, &position, &id);
	return obx_lane_first_strict(work->lane) <= position + 1;
}

/* Collects a stretch of the log that begins where the last one ended. */
static void
read_stretch(ObxPullLane *work, int limit)
{
	ObxBatch   *batch = work->batch;
	ObxProgress place = work->progress;

	obx_pull_lane_place(&work->progress, &place.position, &place.event_id);
	if (place.position < 0)
		report_loss(work, 0, 0);
	if (!obx_batch_collect_new(batch, &place, limit) && batch->lost_until > 0 &&
		batch->read_position == place.position)
		report_loss(work, place.position + 1, batch->lost_until);

	if (work->subscription->filter == NULL)
		mark_blocked(work, true);
	else
		filter_items(work);
	if (batch->reached < batch->nitems)
	{
		/* those not reached are read again */
		const ObxTargetEvent *last = batch->reached > 0 ?
		&batch->items[batch->reached - 1].event : NULL;

		batch->read_all = false;
		batch->read_position = last != NULL ? last->position : place.position;
		batch->read_id = last != NULL ? last->id : place.event_id;
	}
	sift_items(work);
	if (batch->read_position != place.position)
		work->changed = true;
}

int64 *
obx_collect_positions(const ObxBatch *batch)
{
	int64	   *positions = palloc(batch->nitems * sizeof(int64));

	for (int i = 0; i < batch->nitems; i++)
		positions[i] = batch->items[i].event.position;
	return positions;
}

/* Reads on in the log; true if anything can be handed out. */
static bool
collect_new(ObxPullLane *work, int limit)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;

	while (!batch->read_all && !is_strictly_blocked(work))
	{
		read_stretch(work, limit);
		if (batch->nitems > 0)
			break;
		/* as far as was asked for */
		if (batch->read_position + 1 >= batch->read_before)
			batch->read_all = true;
		if (progress->owed.count > 0)
		{
			progress->read_position = batch->read_position;
			progress->read_id = batch->read_id;
			continue;
		}
		progress->position = batch->read_position;
		progress->event_id = batch->read_id;
	}
	if (batch->nitems == 0)
		return false;

	obx_positions_add(&progress->owed, obx_collect_positions(batch), batch->nitems);
	progress->read_position = batch->read_position;
	progress->read_id = batch->read_id;
	return true;
}

/* Events that are read on the way are owed. */
bool
obx_collect_read_to(ObxPullLane *work, int64 to)
{
	int64		position;
	int64		id;

	obx_pull_lane_push_snapshot();
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		obx_pull_lane_place(&work->progress, &position, &id);
		if (position >= to)
			break;
		work->batch = obx_pull_lane_make_batch(work, OBX_HANDOUT_MAX);
		work->batch->read_before = to + 1;
		if (!collect_new(work, OBX_HANDOUT_MAX))
			break;
	}
	PopActiveSnapshot();
	obx_pull_lane_place(&work->progress, &position, &id);
	return position >= to;
}

/* Fills the batch with what is handed out next. */
static bool
collect(ObxPullLane *work, int limit)
{
	ObxProgress *progress = &work->progress;
	bool		owes = progress->owed.count > progress->nhanded;

	work->batch = obx_pull_lane_make_batch(work, limit);
	if (owes)
		work->batch->retry_before = progress->owed.list[progress->nhanded];
	if ((owes || obx_lane_first_strict(work->lane) == PG_INT64_MAX || is_strictly_blocked(work)) &&
		collect_retries(work, limit))
		return true;
	if (work->must_drain)
		return false;

	work->batch->is_retry = false;
	if (collect_owed(work, limit))
		return true;
	if (progress->owed.count > progress->nhanded)
		return false;
	work->batch->read_before = obx_lane_first_strict(work->lane);
	if (collect_new(work, limit))
		return true;
	/* reading on may have come to what is open */
	return is_strictly_blocked(work) && collect_retries(work, limit);
}

/* Is one that must be alone handed out? */
static bool
has_suspect(const ObxPullLane *work)
{
	const ObxPositions *retries = &work->progress.retries;
	ObxDelivery *delivery = NULL;

	if (retries->count == 1 && work->progress.nhanded == 0)
		delivery = obx_delivery_find(work->subscription->id, retries->list[0]);
	return delivery != NULL && obx_blame_is_suspect(delivery);
}

bool
obx_collect_next(ObxPullLane *work, int max_events)
{
	const ObxProgress *progress = &work->progress;
	int			room = OBX_HANDOUT_OUT - obx_pull_lane_handed(progress);
	bool		found;

	if (progress->careful > 0)
		room = progress->careful - obx_pull_lane_handed(progress);
	if (room <= 0 || has_suspect(work))
		return false;
	obx_pull_lane_load(work);
	obx_pull_lane_push_snapshot();
	found = collect(work, Min(Min(max_events, OBX_HANDOUT_MAX), room));
	PopActiveSnapshot();
	return found;
}
