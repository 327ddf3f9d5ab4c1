/*
 * What became of events that were handed out: ack and nack.
 *
 * Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/error.h"
#include "catalog/delivery.h"
#include "pull/lane.h"
#include "pull/receipt.h"

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
require_handout(ObxPullLane *work, const ObxSubscription *subscription, int64 receipt)
{
	int			lane;

	obx_lane_lock_tables();
	for (lane = 0; lane < subscription->concurrency; lane++)
		if (obx_progress_find(subscription->id, lane, &work->progress) &&
			work->progress.receipt == receipt)
			break;
	if (lane == subscription->concurrency || !obx_pull_lane_is_in_force(&work->progress))
		report_stale(subscription, receipt);

	obx_lane_lock(subscription->id, lane, true);
	work->subscription = obx_subscription_require(subscription->name);
	if (!obx_progress_find(subscription->id, lane, &work->progress) ||
		work->progress.receipt != receipt || !obx_pull_lane_is_in_force(&work->progress))
		report_stale(subscription, receipt);
	obx_progress_load(&work->progress);
	if (!obx_pull_lane_is_visible(&work->progress))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent use of receipt " INT64_FORMAT,
						receipt),
				 errdetail("Parts of it were acked or taken back after this transaction's snapshot had been taken."),
				 errhint("Run the transaction again.")));
}

/* Which one of those handed out is it? */
static int
require_index(const ObxPullLane *work, int64 position)
{
	const ObxProgress *progress = &work->progress;
	bool		is_retry = progress->retries.count > 0;
	const int64 *handed = is_retry ? progress->retries.list : progress->owed.list;
	int			count = is_retry ? progress->retries.count : progress->nhanded;

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

/* ---- ack ---- */

void
obx_receipt_ack(const ObxSubscription *subscription, int64 receipt, int64 up_to)
{
	ObxPullLane work = {0};
	ObxProgress *progress = &work.progress;
	bool		is_retry;
	int			count;

	require_handout(&work, subscription, receipt);
	is_retry = progress->retries.count > 0;
	count = is_retry ? progress->retries.count : progress->nhanded;
	if (up_to != 0)
		count = require_index(&work, up_to) + 1;

	if (is_retry)
	{
		obx_pull_lane_load(&work);
		for (int i = 0; i < count; i++)
		{
			ObxDelivery *delivery = obx_delivery_find(subscription->id, progress->retries.list[i]);

			if (delivery != NULL)
				obx_progress_settle(progress, delivery->position, delivery->attempts + 1);
			obx_delivery_delete(subscription->id, progress->retries.list[i]);
			obx_lane_remove(work.lane, progress->retries.list[i]);
		}
		obx_lane_settle(work.lane);
		obx_positions_remove(&progress->retries, 0, count);
	}
	else
	{
		obx_positions_remove(&progress->owed, 0, count);
		progress->nhanded -= count;
	}
	progress->delivered += count;
	if (progress->nhanded == 0 && progress->retries.count == 0)
		progress->receipt = 0;
	obx_pull_lane_write(&work);
}

/* ---- nack ---- */

static ObxDelivery *
require_delivery(const ObxPullLane *work, int64 position)
{
	ObxDelivery *delivery = obx_delivery_find(work->subscription->id, position);

	if (delivery == NULL)
		elog(ERROR, "delivery of position " INT64_FORMAT " is gone", position);
	return delivery;
}

/* Those behind the failing one have rows already, and only leave the hand-out. */
static void
fail_retry(ObxPullLane *work, int index, const ErrorData *error)
{
	ObxProgress *progress = &work->progress;
	ObxItem		item = {0};
	int			left = index;

	work->batch->is_retry = true;
	item.delivery = require_delivery(work, progress->retries.list[index]);
	item.event.position = progress->retries.list[index];
	item.has_key = item.delivery->has_key;
	item.key_hash = item.delivery->key_hash;
	obx_batch_fail(work->batch, &item, error, progress);

	for (int i = index + 1; i < progress->retries.count; i++)
		if (work->subscription->ordering != OBX_ORDERING_STRICT &&
			!obx_item_has_key_of(&item, require_delivery(work, progress->retries.list[i])))
			progress->retries.list[left++] = progress->retries.list[i];
	obx_positions_set(&progress->retries, progress->retries.list, left);
}

/* Those of its key behind the failing one are parked; they get rows with it. */
static void
fail_new(ObxPullLane *work, int index, const ErrorData *error)
{
	ObxProgress *progress = &work->progress;
	ObxBatch   *batch = work->batch;
	ObxItem    *failing;
	int			next = index;

	obx_pull_lane_push_snapshot();
	obx_batch_collect_positions(batch, &progress->owed.list[index],
								progress->nhanded - index);
	PopActiveSnapshot();
	failing = batch->items;
	if (batch->nitems == 0 || failing->event.position != progress->owed.list[index])
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("event at position " INT64_FORMAT " is not kept any more",
						progress->owed.list[index]),
				 errdetail("Retention dropped it while it was handed out."),
				 errhint("It cannot be delivered again: ack it.")));

	obx_batch_fail(batch, failing, error, progress);
	obx_positions_remove(&progress->owed, index, 1);
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
		while (progress->owed.list[next] != item->event.position)
			next++;
		obx_positions_remove(&progress->owed, next, 1);
		progress->nhanded--;
	}
}

void
obx_receipt_nack(const ObxSubscription *subscription, int64 receipt, int64 position,
				 const char *error)
{
	ObxPullLane work = {0};
	ErrorData	data = {0};
	int			index;

	require_handout(&work, subscription, receipt);
	index = require_index(&work, position);
	obx_pull_lane_load(&work);
	work.batch = obx_pull_lane_make_batch(&work, work.progress.nhanded + 1);

	data.sqlerrcode = ERRCODE_RAISE_EXCEPTION;
	data.message = pstrdup(error != NULL ? error : "the consumer gave no reason");
	if (work.progress.retries.count > 0)
		fail_retry(&work, index, &data);
	else
		fail_new(&work, index, &data);

	/*
	 * A dead letter blocks nothing, so those parked behind it may go on; and
	 * one nacked before may not, if it is behind this one.
	 */
	obx_lane_settle(work.lane);
	obx_pull_lane_write(&work);
}
