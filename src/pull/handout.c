/*
 * Handing out events to consumers that pull.
 *
 * What comes first in the log is handed out first: retries that are due, but
 * not before what is owed and comes before them, because that may be of the
 * same key; then what is owed; then what is new.  Who goes on under a receipt
 * gets what comes next behind what it has.
 *
 * Locks: the lane's, without waiting, and given back at once where nothing is
 * taken.  Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/waiter.h"
#include "catalog/names.h"
#include "catalog/sequence.h"
#include "dispatch/filter.h"
#include "dispatch/session.h"
#include "pull/handout.h"
#include "pull/lane.h"
#include "pull/receipt.h"

/* ---- collecting ---- */

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

		if (delivery == NULL || !obx_pull_lane_is_suspect(delivery))
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
		read_stretch(work, limit);
		if (batch->nitems > 0)
			break;
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

	obx_positions_add(&progress->owed, list_positions(batch), batch->nitems);
	progress->read_position = batch->read_position;
	progress->read_id = batch->read_id;
	return true;
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

/* ---- handing out ---- */

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

	progress->receiver = U64FromFullTransactionId(GetTopFullTransactionId());
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
		obx_positions_add(&progress->retries, list_positions(batch), count);
	else
		progress->nhanded += count;

	handout->receipt = progress->receipt;
	handout->nevents = count;
	handout->events = palloc(count * sizeof(ObxTargetEvent));
	for (int i = 0; i < count; i++)
		handout->events[i] = batch->items[i].event;
}

/* Is one that must be alone handed out? */
static bool
has_suspect(const ObxPullLane *work)
{
	const ObxPositions *retries = &work->progress.retries;
	ObxDelivery *delivery = NULL;

	if (retries->count == 1 && work->progress.nhanded == 0)
		delivery = obx_delivery_find(work->subscription->id, retries->list[0]);
	return delivery != NULL && obx_pull_lane_is_suspect(delivery);
}

static bool
collect_next(ObxPullLane *work, int max_events)
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

/* Finds out what is next in the lane, whose lock is held and which nobody has. */
static bool
look_ahead(ObxPullLane *work, int max_events)
{
	ObxProgress *progress = &work->progress;

	obx_progress_load(progress);
	if (obx_pull_lane_handed(progress) > 0)
		obx_pull_lane_blame(work);
	/* one that has run out is refused for ever */
	if (!obx_pull_lane_is_ended(progress))
		progress->receipt = 0;
	obx_pull_lane_end(progress);
	return collect_next(work, max_events);
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
		if (lease == OBX_HANDOUT_NO_LEASE)
			obx_waiter_arm();
	}
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

/* Somebody has the lane's lock: until the transaction ends, of which nobody tells us. */
#define OBX_HANDOUT_LOCKED_AGAIN (20 * 1000)

/* What is due but cannot be had yet is looked at no more often. */
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
		collect_next(&work, max_events);
	if (found || lease != OBX_HANDOUT_NO_LEASE)
		hold(&work, lease);
	if (found)
		hand_out(&work, handout);
	if (work.changed)
		obx_pull_lane_write(&work);
	return found;
}
