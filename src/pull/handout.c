/*
 * Handing out events to consumers that pull.
 *
 * What comes first in the log is handed out first: retries that are due, but
 * not before what is owed and comes before them, because that may be of the
 * same key; then what is owed; then what is new.
 *
 * Locks: the lane's, without waiting, and given back at once where nothing is
 * taken.  Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "catalog/names.h"
#include "catalog/sequence.h"
#include "dispatch/filter.h"
#include "dispatch/session.h"
#include "pull/handout.h"
#include "pull/lane.h"

/* ---- collecting ---- */

/*
 * Must the item wait for an open one?  New events come after all that are
 * open; one that is owed may be of the same key as a later one that was nacked.
 */
static bool
is_blocked(const ObxPullLane *work, const ObxItem *item, bool is_new)
{
	if (is_new)
		return obx_lane_is_blocked(work->lane, item->has_key, item->key_hash);
	return obx_lane_is_blocked_at(work->lane, item->has_key, item->key_hash,
								  item->event.position);
}

/* Going on behind a gap would hide it. */
static void
report_loss(const ObxPullLane *work, int64 until)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("subscription \"%s\" lost events", work->subscription->name),
			 work->progress.position < 0 ? errdetail("How far it has come is not known: the log and the progress of subscriptions were not restored together.") :
			 errdetail("Positions " INT64_FORMAT " to " INT64_FORMAT
					   " were dropped by outbox.max_retention before they were consumed.",
					   work->progress.position + 1, until),
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

/* Retries are filtered, for it may be the filter that failed. */
static bool
collect_retries(ObxPullLane *work, int limit)
{
	ObxBatch   *batch = work->batch;
	int			failures;

	do
	{
		if (!obx_batch_collect_retries(batch, limit))
			return false;
		if (work->subscription->filter == NULL && !batch->has_lost)
			return true;

		failures = batch->failures;
		if (work->subscription->filter != NULL)
			filter_items(work);
		else
			leave_lost(batch);
		sift_items(work);
		obx_lane_settle(work->lane);
	} while (batch->nitems == 0 && batch->failures == failures);
	return batch->nitems > 0;
}

/* How many of those owed do not have to wait for what is open. */
static int
count_servable(const ObxPullLane *work)
{
	const ObxProgress *progress = &work->progress;
	int64		end = obx_lane_first_strict(work->lane);
	int			count = 0;

	while (count < progress->owed.count && progress->owed.list[count] < end)
		count++;
	return count;
}

/* Of the first ones owed, only the batch's items still are. */
static void
leave_owed(ObxPullLane *work, int seen)
{
	ObxPositions *owed = &work->progress.owed;
	int			left = work->batch->nitems;

	for (int i = 0; i < left; i++)
		owed->list[i] = work->batch->items[i].event.position;
	obx_positions_remove(owed, left, seen - left);
}

/* Takes from what is owed; true if anything can be handed out. */
static bool
collect_owed(ObxPullLane *work, int limit)
{
	ObxProgress *progress = &work->progress;
	int			servable;

	while ((servable = count_servable(work)) > 0)
	{
		int			seen;

		seen = obx_batch_collect_positions(work->batch, progress->owed.list,
										   Min(servable, limit));
		if (work->batch->nitems < seen)
			report_loss(work, progress->owed.list[seen - 1]);
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
	return obx_lane_first_strict(work->lane) <= work->progress.position + 1;
}

/* Reads a stretch of the log. */
static void
collect_stretch(ObxPullLane *work, int limit)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;

	if (progress->position < 0)
		report_loss(work, 0);
	if (!obx_batch_collect_new(batch, progress, limit) && batch->lost_until > 0 &&
		batch->read_position == progress->position)
		report_loss(work, batch->lost_until);

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
		batch->read_position = last != NULL ? last->position : progress->position;
		batch->read_id = last != NULL ? last->id : progress->event_id;
	}
	sift_items(work);
	if (batch->read_position != progress->position)
		work->changed = true;
}

static int64 *
list_positions(const ObxBatch *batch)
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
		collect_stretch(work, limit);
		if (batch->nitems > 0)
			break;
		progress->position = batch->read_position;
		progress->event_id = batch->read_id;
	}
	if (batch->nitems == 0)
		return false;

	obx_positions_set(&progress->owed, list_positions(batch), batch->nitems);
	progress->read_position = batch->read_position;
	progress->read_id = batch->read_id;
	return true;
}

/* Fills the batch with what is handed out next. */
static bool
collect(ObxPullLane *work, int limit)
{
	ObxProgress *progress = &work->progress;

	work->batch = obx_pull_lane_make_batch(work, limit);
	if (progress->owed.count > 0)
		work->batch->retry_before = progress->owed.list[0];
	if ((progress->owed.count > 0 || obx_lane_first_strict(work->lane) == PG_INT64_MAX || is_strictly_blocked(work)) &&
		collect_retries(work, limit))
		return true;

	work->batch->is_retry = false;
	if (collect_owed(work, limit))
		return true;
	if (progress->owed.count > 0)
		return false;
	work->batch->read_before = obx_lane_first_strict(work->lane);
	if (collect_new(work, limit))
		return true;
	/* reading on may have come to what is open */
	return is_strictly_blocked(work) && collect_retries(work, limit);
}

/* ---- handing out ---- */

/* The batch is the lane's hand-out from now on. */
static void
hand_out(ObxPullLane *work, int64 lease, ObxHandout *handout)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;
	int			count = batch->nitems;
	int64		receipt;

	receipt = nextval_internal(obx_object_require(OBX_RECEIPT_SEQ), false);
	if (receipt <= progress->receipt)
	{
		obx_sequence_raise(OBX_RECEIPT_SEQ, progress->receipt);
		receipt = nextval_internal(obx_object_require(OBX_RECEIPT_SEQ), false);
	}
	progress->receipt = receipt;
	progress->receiver = U64FromFullTransactionId(GetTopFullTransactionId());
	progress->lease_until = lease == OBX_HANDOUT_NO_LEASE ? DT_NOBEGIN :
		GetCurrentTimestamp() + lease;
	progress->noted_at = GetCurrentTimestamp();
	progress->nhanded = batch->is_retry ? 0 : count;
	if (batch->is_retry)
		obx_positions_set(&progress->retries, list_positions(batch), count);

	handout->receipt = progress->receipt;
	handout->nevents = count;
	handout->events = palloc(count * sizeof(ObxTargetEvent));
	for (int i = 0; i < count; i++)
		handout->events[i] = batch->items[i].event;
	work->changed = true;
}

/* Hands out something of the lane, whose lock is held, if there is anything. */
static bool
serve_lane(ObxPullLane *work, int max_events, int64 lease, ObxHandout *handout)
{
	bool		found;

	/* a former hand-out has run out */
	work->progress.receipt = 0;
	work->progress.nhanded = 0;
	obx_positions_set(&work->progress.retries, NULL, 0);
	obx_progress_load(&work->progress);

	obx_pull_lane_load(work);
	obx_pull_lane_push_snapshot();
	found = collect(work, Min(max_events, OBX_HANDOUT_MAX));
	PopActiveSnapshot();

	if (found)
		hand_out(work, lease, handout);
	if (work->changed)
		obx_pull_lane_write(work);
	return found;
}

/* Reads the lane anew under its lock; false if nothing may be taken from it. */
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
