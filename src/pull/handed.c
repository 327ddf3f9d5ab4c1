/*
 * Events that are handed out: which ones they are, and that they have failed.
 *
 * Locks: the lane's, whose lists are loaded.  Must not know receipts.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/delivery.h"
#include "pull/handed.h"
#include "pull/lane.h"

/* The first or the last one that is handed out. */
static int64
handed_at(const ObxProgress *progress, bool last)
{
	int64		owed = progress->nhanded == 0 ? 0 :
	progress->owed.list[last ? progress->nhanded - 1 : 0];
	int64		retry = progress->retries.count == 0 ? 0 :
	progress->retries.list[last ? progress->retries.count - 1 : 0];

	if (owed == 0 || retry == 0)
		return Max(owed, retry);
	return last ? Max(owed, retry) : Min(owed, retry);
}

/* Is it one that is handed out as a retry?  ereports for one that is not handed out. */
bool
obx_handed_is_retry(const ObxProgress *progress, int64 position)
{
	int			count = obx_pull_lane_handed(progress);

	if (obx_positions_find(&progress->retries, progress->retries.count, position) >= 0)
		return true;
	if (obx_positions_find(&progress->owed, progress->nhanded, position) >= 0)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("position " INT64_FORMAT " is not handed out under receipt " INT64_FORMAT,
					position, progress->receipt),
			 count == 0 ? errdetail("Nothing is left of that hand-out.") :
			 errdetail("Left of that hand-out are %d of the positions " INT64_FORMAT
					   " to " INT64_FORMAT ".",
					   count, handed_at(progress, false), handed_at(progress, true)),
			 errhint("Give a position that outbox.receive() returned with this receipt and that was not acked, nacked or taken back.")));
	return false;				/* keep the compiler quiet */
}

/* Which of the positions are handed out as retries, or else as owed, ascending. */
int64 *
obx_handed_list(const ObxProgress *progress, const int64 *positions, int npositions, bool retries,
				int *count)
{
	int64	   *list = palloc(Max(npositions, 1) * sizeof(int64));

	*count = 0;
	for (int i = 0; i < npositions; i++)
		if (obx_handed_is_retry(progress, positions[i]) == retries)
			list[(*count)++] = positions[i];
	return list;
}

void
obx_handed_settle(ObxProgress *progress, int count)
{
	progress->careful_left -= Min(count, progress->careful_left);
	if (progress->careful_left == 0)
		progress->careful = 0;
}

static ObxDelivery *
require_delivery(const ObxPullLane *work, int64 position)
{
	ObxDelivery *delivery = obx_delivery_find(work->subscription->id, position);

	if (delivery == NULL)
		elog(ERROR, "delivery of position " INT64_FORMAT " is gone", position);
	return delivery;
}

static void
fail_item(ObxPullLane *work, ObxItem *item, const ErrorData *error, bool final)
{
	obx_item_fail(work->batch, item, final ? OBX_VERDICT_DEAD : OBX_VERDICT_FAILURE, error);
	obx_batch_write_item(work->batch, item, &work->progress);
}

/* Retries behind the failing one have rows already, and only leave the hand-out. */
static void
take_retries_back(ObxPullLane *work, const ObxItem *failing)
{
	ObxPositions *retries = &work->progress.retries;
	int64	   *taken = palloc(Max(retries->count, 1) * sizeof(int64));
	int			count = 0;

	for (int i = 0; i < retries->count; i++)
	{
		int64		position = retries->list[i];

		if (position > failing->event.position &&
			(work->subscription->ordering == OBX_ORDERING_STRICT ||
			 obx_item_has_key_of(failing, require_delivery(work, position))))
			taken[count++] = position;
	}
	obx_positions_take(retries, taken, count);
	pfree(taken);
}

static void
fail_retry(ObxPullLane *work, int64 position, const ErrorData *error, bool final)
{
	ObxItem		item = {0};

	work->batch->is_retry = true;
	item.delivery = require_delivery(work, position);
	item.event.position = position;
	item.key = item.delivery->key;
	fail_item(work, &item, error, final);
	work->batch->is_retry = false;
	obx_positions_take(&work->progress.retries, &position, 1);
	take_retries_back(work, &item);
}

/* What one walk over the events that are handed out from the log finds. */
typedef struct FailingOwed
{
	const int64 *positions;		/* that failed */
	int			npositions;
	const ErrorData *error;
	const ObxNack *nack;
	HTAB	   *keys;			/* of those that failed */
	int64	   *taken;			/* positions that leave the hand-out */
	int			ntaken;
	int			next;			/* of positions */
} FailingOwed;

/* The next that failed is not in the log any more. */
static void
note_dropped(FailingOwed *failing)
{
	int64		position = failing->positions[failing->next++];

	if (failing->nack->may_be_gone)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("event at position " INT64_FORMAT " is not kept any more", position),
			 errdetail("Retention dropped it while it was handed out."),
			 errhint("It cannot be delivered again: ack it.")));
}

/* An event that fails, or is behind one of its key that does: it is parked. */
static void
fail_owed_item(ObxPullLane *work, FailingOwed *failing, ObxItem *item)
{
	bool		behind = false;

	while (failing->next < failing->npositions &&
		   failing->positions[failing->next] < item->event.position)
		note_dropped(failing);
	if (item->key.has)
		(void) hash_search(failing->keys, &item->key.hash, HASH_FIND, &behind);
	if (failing->next < failing->npositions &&
		failing->positions[failing->next] == item->event.position)
	{
		failing->next++;
		fail_item(work, item, failing->error, failing->nack->final);
		take_retries_back(work, item);
		if (item->key.has)
			(void) hash_search(failing->keys, &item->key.hash, HASH_ENTER, NULL);
	}
	else if (behind && work->subscription->ordering == OBX_ORDERING_KEY)
		obx_batch_park(work->batch, item);
	else
		return;
	failing->taken[failing->ntaken++] = item->event.position;
}

/*
 * Where to look at next, at or behind a place among those handed out.  Where no
 * key has failed, nothing between here and the next that fails waits for one.
 */
static int
find_next(const ObxPullLane *work, const FailingOwed *failing, int at)
{
	const ObxProgress *progress = &work->progress;
	int			next;

	if (hash_get_num_entries(failing->keys) > 0 &&
		work->subscription->ordering == OBX_ORDERING_KEY)
		return at;
	if (failing->next == failing->npositions)
		return progress->nhanded;
	next = obx_positions_find(&progress->owed, progress->nhanded,
							  failing->positions[failing->next]);
	return Max(next, at);
}

/*
 * Walks from the first that fails: those of its key behind it are parked, and
 * get rows with it.  Under "strict" what is behind it is still owed, but not
 * before it is dealt with.
 */
static void
fail_owed(ObxPullLane *work, const int64 *positions, int npositions, const ErrorData *error,
		  const ObxNack *nack)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;
	int			first = obx_positions_find(&progress->owed, progress->nhanded, positions[0]);
	int			read = 1;
	FailingOwed failing = {
		.positions = positions,.npositions = npositions,.error = error,.nack = nack
	};
	HASHCTL		control = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(int64),
		.hcxt = CurrentMemoryContext
	};

	failing.keys = hash_create("pg_outbox failed keys", 64, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	failing.taken = palloc((progress->nhanded - first) * sizeof(int64));
	for (int at = first; at < progress->nhanded; at = find_next(work, &failing, at))
	{
		/* what is behind one without a key may be of no interest */
		int			count = Min(progress->nhanded - at, read);

		read = Min(read, PG_INT32_MAX / 2) * 2;
		batch->nitems = 0;
		obx_pull_lane_push_snapshot();
		at += obx_batch_collect_positions(batch, &progress->owed.list[at], count);
		PopActiveSnapshot();
		for (int i = 0; i < batch->nitems; i++)
			fail_owed_item(work, &failing, &batch->items[i]);
	}
	while (failing.next < npositions)
		note_dropped(&failing);

	obx_positions_take(&progress->owed, failing.taken, failing.ntaken);
	progress->nhanded -= failing.ntaken;
	if (work->subscription->ordering == OBX_ORDERING_STRICT)
		progress->nhanded = Min(progress->nhanded, first);
	hash_destroy(failing.keys);
}

void
obx_handed_fail(ObxPullLane *work, const ObxNack *nack, int sqlstate)
{
	ErrorData	error = {0};
	const int64 *owed;
	const int64 *retries;
	int			nowed;
	int			nretries;

	error.sqlerrcode = sqlstate;
	error.message = pstrdup(nack->error != NULL ? nack->error : "the consumer gave no reason");
	owed = obx_handed_list(&work->progress, nack->positions, nack->npositions, false, &nowed);
	retries = obx_handed_list(&work->progress, nack->positions, nack->npositions, true, &nretries);

	work->batch = obx_pull_lane_make_batch(work, work->progress.nhanded + 1);
	work->batch->has_delay = nack->delay >= 0;
	work->batch->delay = nack->delay;
	/* the last one first: it is taken back with an earlier one of its key */
	for (int i = nretries - 1; i >= 0; i--)
		fail_retry(work, retries[i], &error, nack->final);
	if (nowed > 0)
		fail_owed(work, owed, nowed, &error, nack);
	obx_handed_settle(&work->progress, nack->npositions);

	/*
	 * A dead letter blocks nothing, so those parked behind it may go on; and
	 * one nacked before may not, if it is behind this one.
	 */
	obx_lane_refresh_heads(work->lane);
}
