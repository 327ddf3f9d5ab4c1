/*
 * Hand-outs to consumers that pull.
 *
 * A hand-out is part of the newest version of its lane's progress.  "owed"
 * are the positions that were read from the log for consumers and are neither
 * acked nor in outbox.delivery: what lies before the first of them is dealt
 * with, and the log is read on only when none is left.  A hand-out has either
 * the first few of those owed, or retries, which have delivery rows.  So one
 * that runs out needs nothing to be done: its events are owed, or due, as
 * before, and the next hand-out has another receipt.
 *
 * What comes first in the log is handed out first: retries wait for events
 * owed before them, because these may be of the same key.
 *
 * A hand-out is in force in the transaction that received it, and with a lease
 * until that ends.  An expired one is no attempt: nothing is known of what its
 * consumer did.
 *
 * Locks: the lane's, as for a pass, taken before the snapshot; by receive
 * without waiting, and given back at once where nothing is taken.  Under
 * repeatable read the transaction's snapshot is older than the lock; a lane
 * whose progress it does not see is not touched, for the consumer's queries
 * would not see either what was done about the events before.  The log is then
 * read with that snapshot too.
 *
 * Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/sequence.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "catalog/delivery.h"
#include "catalog/names.h"
#include "dispatch/batch.h"
#include "dispatch/handout.h"
#include "dispatch/lane.h"

/* A lane at work, its lock held. */
typedef struct Work
{
	const ObxSubscription *subscription;
	ObxProgress progress;
	ObxLane    *lane;
	ObxBatch   *batch;
	bool		changed;		/* progress must be written */
} Work;

/* ---- the lane ---- */

/* Is its receipt still good, even if nothing is left? */
static bool
is_in_force(const ObxProgress *progress)
{
	FullTransactionId own = GetTopFullTransactionIdIfAny();

	return progress->receipt != 0 &&
		(progress->lease_until > GetCurrentTimestamp() ||
		 (FullTransactionIdIsValid(own) &&
		  U64FromFullTransactionId(own) == progress->receiver));
}

static bool
is_out(const ObxProgress *progress)
{
	return (progress->nhanded > 0 || progress->nretries > 0) && is_in_force(progress);
}

/* Does the consumer's transaction see the lane as it is? */
static bool
is_visible(const ObxProgress *progress)
{
	return !IsolationUsesXactSnapshot() ||
		obx_progress_version(progress->subscription, progress->lane,
							 GetTransactionSnapshot()) == progress->version;
}

/*
 * What the lane waits for.  This process must not trust it later: the
 * transaction may be rolled back, and others serve the lane.
 */
static void
load_lane(Work *work)
{
	work->lane = obx_lane_load(work->progress.subscription, work->progress.lane,
							   work->progress.version);
	obx_lane_forget(work->lane);
}

static void
push_snapshot(void)
{
	PushActiveSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() :
					   GetLatestSnapshot());
}

static ObxBatch *
make_batch(Work *work, int size)
{
	ObxSubscription *sized = palloc(sizeof(ObxSubscription));

	*sized = *work->subscription;
	sized->batch_size = size;
	return obx_batch_make(sized, work->lane, NULL, true);
}

/* The lane's position is behind all that is dealt with. */
static void
write_progress(Work *work)
{
	ObxProgress *progress = &work->progress;

	if (progress->nowed > 0)
	{
		if (progress->position != progress->owed[0] - 1)
			progress->event_id = 0;
		progress->position = progress->owed[0] - 1;
	}
	else if (progress->read_position > 0)
	{
		progress->position = progress->read_position;
		progress->event_id = progress->read_id;
	}
	obx_progress_advance(progress);
}

void
obx_handout_drop(ObxProgress *progress)
{
	progress->receipt = 0;
	progress->nowed = progress->nhanded = progress->nretries = 0;
	progress->read_position = progress->read_id = 0;
}

/* ---- collecting ---- */

static bool
has_key_of(const ObxDelivery *delivery, const ObxItem *item)
{
	return item->has_key && delivery->has_key && delivery->key_hash == item->key_hash;
}

/*
 * Must the item wait for an open one?  New events come after all that are
 * open; one that is owed may be of the same key as a later one that was nacked.
 */
static bool
is_blocked(const Work *work, const ObxItem *item, bool is_new)
{
	ListCell   *lc;

	if (!obx_lane_is_blocked(work->lane, work->subscription, item->has_key, item->key_hash))
		return false;
	if (is_new)
		return true;
	foreach(lc, work->lane->open)
	{
		const ObxDelivery *delivery = lfirst(lc);

		if (delivery->position < item->event.position && has_key_of(delivery, item))
			return true;
	}
	return false;
}

/* Parks what is blocked; what is left of the batch's items can be handed out. */
static void
park_blocked(Work *work, bool is_new)
{
	ObxBatch   *batch = work->batch;
	int			left = 0;

	for (int i = 0; i < batch->nitems; i++)
	{
		ObxItem    *item = &batch->items[i];

		if (is_blocked(work, item, is_new))
		{
			obx_batch_park(batch, item);
			work->changed = true;
		}
		else
			batch->items[left++] = *item;
	}
	batch->nitems = left;
}

/* How many of those owed do not have to wait for what is open. */
static int
count_servable(const Work *work)
{
	const ObxProgress *progress = &work->progress;
	int64		end = PG_INT64_MAX;
	int			count = 0;

	if (work->subscription->ordering == OBX_ORDERING_STRICT && work->lane->open != NIL)
		end = ((ObxDelivery *) linitial(work->lane->open))->position;
	while (count < progress->nowed && progress->owed[count] < end)
		count++;
	return count;
}

/* Takes from what is owed; true if anything can be handed out. */
static bool
collect_owed(Work *work, int limit)
{
	ObxProgress *progress = &work->progress;
	int			servable;

	while ((servable = count_servable(work)) > 0)
	{
		int			seen;
		int64	   *owed;
		int			nowed = 0;

		seen = obx_batch_collect_positions(work->batch, progress, progress->owed,
										   Min(servable, limit));
		if (work->batch->nitems < seen)
			work->changed = true;
		park_blocked(work, false);

		/* what was parked, or is gone, is owed no more */
		owed = palloc(progress->nowed * sizeof(int64));
		for (int i = 0; i < work->batch->nitems; i++)
			owed[nowed++] = work->batch->items[i].event.position;
		for (int i = seen; i < progress->nowed; i++)
			owed[nowed++] = progress->owed[i];
		progress->owed = owed;
		progress->nowed = nowed;
		if (work->batch->nitems > 0)
			return true;
	}
	return false;
}

/* Reads on in the log; true if anything can be handed out. */
static bool
collect_new(Work *work, int limit)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;

	if (work->subscription->ordering == OBX_ORDERING_STRICT && work->lane->open != NIL)
		return false;

	do
	{
		obx_batch_collect_new(batch, progress, limit);
		park_blocked(work, true);
		if (batch->read_position != progress->position)
			work->changed = true;
		if (batch->nitems == 0)
		{
			progress->position = batch->read_position;
			progress->event_id = batch->read_id;
		}
	} while (batch->nitems == 0 && !batch->read_all);

	if (batch->nitems == 0)
		return false;
	progress->owed = palloc(batch->nitems * sizeof(int64));
	progress->nowed = batch->nitems;
	for (int i = 0; i < batch->nitems; i++)
		progress->owed[i] = batch->items[i].event.position;
	progress->read_position = batch->read_position;
	progress->read_id = batch->read_id;
	return true;
}

/* Fills the batch with what is handed out next. */
static bool
collect(Work *work, int limit)
{
	ObxProgress *progress = &work->progress;

	work->batch = make_batch(work, limit);
	if (progress->nowed > 0)
		work->batch->retry_before = progress->owed[0];
	if (obx_batch_collect_retries(work->batch, progress, limit))
		return true;

	work->batch->is_retry = false;
	if (collect_owed(work, limit))
		return true;
	return progress->nowed == 0 && collect_new(work, limit);
}

/* ---- handing out ---- */

/* The batch is the lane's hand-out from now on. */
static void
hand_out(Work *work, int64 lease, ObxHandout *handout)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;
	int			count = batch->nitems;

	progress->receipt = nextval_internal(obx_object_require(OBX_RECEIPT_SEQ), false);
	progress->receiver = U64FromFullTransactionId(GetTopFullTransactionId());
	progress->lease_until = lease == OBX_HANDOUT_NO_LEASE ? DT_NOBEGIN :
		GetCurrentTimestamp() + lease;
	progress->nhanded = batch->is_retry ? 0 : count;
	progress->nretries = batch->is_retry ? count : 0;
	if (batch->is_retry)
		progress->retries = palloc(count * sizeof(int64));

	handout->receipt = progress->receipt;
	handout->nevents = count;
	handout->events = palloc(count * sizeof(ObxTargetEvent));
	for (int i = 0; i < count; i++)
	{
		handout->events[i] = batch->items[i].event;
		if (batch->is_retry)
			progress->retries[i] = batch->items[i].event.position;
	}
	work->changed = true;
}

/* Hands out something of the lane, whose lock is held, if there is anything. */
static bool
serve_lane(Work *work, int max_events, int64 lease, ObxHandout *handout)
{
	bool		found;

	/* a former hand-out has run out */
	work->progress.receipt = 0;
	work->progress.nhanded = work->progress.nretries = 0;

	load_lane(work);
	push_snapshot();
	found = collect(work, Min(max_events, OBX_HANDOUT_MAX));
	PopActiveSnapshot();

	if (found)
		hand_out(work, lease, handout);
	if (work->changed)
		write_progress(work);
	return found;
}

/* Reads the lane anew under its lock; false if nothing may be taken from it. */
static bool
is_free(Work *work, int32 id, int lane)
{
	work->subscription = obx_subscription_find(id);
	return work->subscription != NULL && !work->subscription->paused &&
		lane < work->subscription->concurrency &&
		obx_progress_find(id, lane, &work->progress) &&
		!is_out(&work->progress) && is_visible(&work->progress);
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

	foreach(lc, list_lanes(subscription))
	{
		const ObxProgress *progress = lfirst(lc);
		Work		work = {0};

		CHECK_FOR_INTERRUPTS();
		if (is_out(progress) || !obx_lane_lock(subscription->id, progress->lane, false))
			continue;
		if (is_free(&work, subscription->id, progress->lane) &&
			serve_lane(&work, max_events, lease, handout))
			return true;
		if (!work.changed)
			obx_lane_unlock(subscription->id, progress->lane);
	}
	return false;
}

/* ---- receipts ---- */

static void
report_stale(const ObxSubscription *subscription, int64 receipt)
{
	ereport(ERROR,
			(errcode(OBX_ERRCODE_STALE_RECEIPT),
			 errmsg("receipt " INT64_FORMAT " of subscription \"%s\" is not valid any more",
					receipt, subscription->name),
			 errdetail("Its lease has run out, its transaction has ended, or all of it was acked."),
			 errhint("Undo what was done about its events: outbox.receive() hands out again what was not acked.")));
}

/* Finds the receipt's lane, takes its lock and reads it under that. */
static void
require_handout(Work *work, const ObxSubscription *subscription, int64 receipt)
{
	int			lane;

	for (lane = 0; lane < subscription->concurrency; lane++)
		if (obx_progress_find(subscription->id, lane, &work->progress) &&
			work->progress.receipt == receipt)
			break;
	if (lane == subscription->concurrency || receipt == 0)
		report_stale(subscription, receipt);

	obx_lane_lock(subscription->id, lane, true);
	work->subscription = obx_subscription_require(subscription->name);
	if (!obx_progress_find(subscription->id, lane, &work->progress) ||
		work->progress.receipt != receipt || !is_in_force(&work->progress))
		report_stale(subscription, receipt);
	if (!is_visible(&work->progress))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent use of receipt " INT64_FORMAT,
						receipt),
				 errhint("Run the transaction again.")));
}

/* Which one of those handed out is it? */
static int
require_index(const Work *work, int64 position)
{
	const ObxProgress *progress = &work->progress;
	bool		is_retry = progress->nretries > 0;
	const int64 *handed = is_retry ? progress->retries : progress->owed;
	int			count = is_retry ? progress->nretries : progress->nhanded;

	for (int i = 0; i < count; i++)
		if (handed[i] == position)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("position " INT64_FORMAT " is not handed out under receipt " INT64_FORMAT,
					position, progress->receipt),
			 count == 0 ? errdetail("Nothing is left of that hand-out.") :
			 errdetail("Left of that hand-out are %d of the positions " INT64_FORMAT
					   " to " INT64_FORMAT ".",
					   count, handed[0], handed[count - 1]),
			 errhint("Give a position that outbox.receive() returned with this receipt and that was not acked, nacked or taken back.")));
	return -1;					/* keep the compiler quiet */
}

/* Takes "count" positions out of an array of "*n". */
static void
remove_positions(int64 *positions, int *n, int from, int count)
{
	memmove(&positions[from], &positions[from + count],
			(*n - from - count) * sizeof(int64));
	*n -= count;
}

/* ---- ack ---- */

void
obx_handout_ack(const ObxSubscription *subscription, int64 receipt, int64 up_to)
{
	Work		work = {0};
	ObxProgress *progress = &work.progress;
	bool		is_retry;
	int			count;

	require_handout(&work, subscription, receipt);
	is_retry = progress->nretries > 0;
	count = is_retry ? progress->nretries : progress->nhanded;
	if (up_to != 0)
		count = require_index(&work, up_to) + 1;

	if (is_retry)
	{
		for (int i = 0; i < count; i++)
			obx_delivery_delete(subscription->id, progress->retries[i]);
		remove_positions(progress->retries, &progress->nretries, 0, count);
		obx_lane_settle(work.subscription, progress->lane);
	}
	else
	{
		remove_positions(progress->owed, &progress->nowed, 0, count);
		progress->nhanded -= count;
	}
	progress->delivered += count;
	if (progress->nhanded == 0 && progress->nretries == 0)
		progress->receipt = 0;
	write_progress(&work);
}

/* ---- nack ---- */

static ObxDelivery *
require_delivery(const Work *work, int64 position)
{
	ObxDelivery *delivery = obx_delivery_find(work->subscription->id, position);

	if (delivery == NULL)
		elog(ERROR, "delivery of position " INT64_FORMAT " is gone", position);
	return delivery;
}

/* Those behind the failing one have rows already, and only leave the hand-out. */
static void
fail_retry(Work *work, int index, const ErrorData *error)
{
	ObxProgress *progress = &work->progress;
	ObxItem		item = {0};
	int			left = index;

	work->batch->is_retry = true;
	item.delivery = require_delivery(work, progress->retries[index]);
	item.event.position = progress->retries[index];
	item.has_key = item.delivery->has_key;
	item.key_hash = item.delivery->key_hash;
	obx_batch_fail(work->batch, &item, error, progress);

	for (int i = index + 1; i < progress->nretries; i++)
		if (work->subscription->ordering != OBX_ORDERING_STRICT &&
			!has_key_of(require_delivery(work, progress->retries[i]), &item))
			progress->retries[left++] = progress->retries[i];
	progress->nretries = left;
}

/* Those of its key behind the failing one are parked; they get rows with it. */
static void
fail_new(Work *work, int index, const ErrorData *error)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;
	ObxItem    *failing = &batch->items[0];
	int			next = index;

	push_snapshot();
	obx_batch_collect_positions(batch, progress, &progress->owed[index],
								progress->nhanded - index);
	PopActiveSnapshot();
	if (batch->nitems == 0 || failing->event.position != progress->owed[index])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event at position " INT64_FORMAT " is not kept any more",
						progress->owed[index]),
				 errhint("It cannot be delivered again: ack it.")));

	obx_batch_fail(batch, failing, error, progress);
	remove_positions(progress->owed, &progress->nowed, index, 1);
	progress->nhanded--;
	if (work->subscription->ordering == OBX_ORDERING_STRICT)
	{
		/* still owed, but not before the failing one is dealt with */
		progress->nhanded = index;
		return;
	}

	for (int i = 1; i < batch->nitems; i++)
	{
		ObxItem    *item = &batch->items[i];

		if (!failing->has_key || !item->has_key || item->key_hash != failing->key_hash)
			continue;
		obx_batch_park(batch, item);
		while (progress->owed[next] != item->event.position)
			next++;
		remove_positions(progress->owed, &progress->nowed, next, 1);
		progress->nhanded--;
	}
}

void
obx_handout_nack(const ObxSubscription *subscription, int64 receipt, int64 position,
				 const char *error)
{
	Work		work = {0};
	ErrorData	data = {0};
	int			index;

	require_handout(&work, subscription, receipt);
	index = require_index(&work, position);
	load_lane(&work);
	work.batch = make_batch(&work, work.progress.nhanded + 1);

	data.sqlerrcode = ERRCODE_RAISE_EXCEPTION;
	data.message = pstrdup(error != NULL ? error : "the consumer gave no reason");
	if (work.progress.nretries > 0)
		fail_retry(&work, index, &data);
	else
		fail_new(&work, index, &data);

	/*
	 * A dead letter blocks nothing, so those parked behind it may go on; and
	 * one nacked before may not, if it is behind this one.
	 */
	obx_lane_settle(work.subscription, work.progress.lane);
	write_progress(&work);
}
