/*
 * The outcome of an event: its row in outbox.delivery, if it gets one.
 *
 * A failure makes or changes the row in memory at once, so that later events
 * of its key wait.  The row is written with the batch, because the effects of
 * a batch's calls may be undone until then.
 *
 * Must not know calls, nor transactions.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "dispatch/batch.h"
#include "dispatch/retry.h"

/* ---- failures ---- */

ObxDelivery *
obx_item_make_delivery(ObxBatch *batch, const ObxItem *item)
{
	ObxDelivery *delivery = palloc0(sizeof(ObxDelivery));

	delivery->subscription = batch->subscription->id;
	delivery->lane = batch->lane->key.lane;
	delivery->position = item->event.position;
	delivery->state = OBX_DELIVERY_PARKED;
	delivery->open = true;
	delivery->key = item->key;
	delivery->xid = item->xid;
	delivery->event_id = item->event.id;
	delivery->next_at = DT_NOEND;
	return delivery;
}

static void
report_failure(ObxBatch *batch, const ObxItem *item, const ErrorData *error)
{
	const ObxDelivery *delivery = item->delivery;

	ereport(delivery->state == OBX_DELIVERY_DEAD ? LOG : DEBUG1,
			(errcode(error->sqlerrcode),
			 errmsg("event at position " INT64_FORMAT " failed in subscription \"%s\": %s",
					item->event.position, batch->subscription->name, delivery->error),
			 delivery->state == OBX_DELIVERY_DEAD ?
			 errdetail("Attempt %d of %d: the event is a dead letter now.",
					   delivery->attempts, batch->subscription->max_attempts) :
			 errdetail("Attempt %d of %d, the next one at %s.", delivery->attempts,
					   batch->subscription->max_attempts,
					   timestamptz_to_str(delivery->next_at)),
			 delivery->state == OBX_DELIVERY_DEAD ?
			 errhint("See the view outbox.dead_letter.") : 0));
}

void
obx_item_fail(ObxBatch *batch, ObxItem *item, ObxVerdict verdict, const ErrorData *error)
{
	bool		is_new = item->delivery == NULL;

	if (is_new)
		item->delivery = obx_item_make_delivery(batch, item);
	obx_retry_note_failure(batch->subscription, verdict, error, item->delivery);
	if (batch->has_delay && item->delivery->state == OBX_DELIVERY_RETRY)
		item->delivery->next_at = item->delivery->failed_at + batch->delay;
	item->state = OBX_ITEM_FAILED;
	batch->failures++;
	report_failure(batch, item, error);

	/* later events of its key are parked from here on */
	if (is_new && item->delivery->open)
		obx_lane_add(batch->lane, item->delivery);
}

/* ---- writing ---- */

void
obx_batch_park(ObxBatch *batch, ObxItem *item)
{
	ObxDelivery *delivery = obx_item_make_delivery(batch, item);

	item->state = OBX_ITEM_PARKED;
	obx_delivery_insert(delivery);
	obx_lane_add(batch->lane, delivery);
}

/* Nothing is left to wait for. */
static void
end_retry(ObxBatch *batch, const ObxItem *item, ObxProgress *progress, int64 attempts)
{
	obx_progress_record_outcome(progress, item->event.position, attempts);
	obx_delivery_delete(batch->subscription->id, item->event.position);
	obx_lane_remove(batch->lane, item->event.position);
}

/* Nobody can deliver it any more; those behind it go on. */
static void
end_lost(ObxBatch *batch, const ObxItem *item)
{
	char	   *error = psprintf("position " INT64_FORMAT
								 " was dropped by outbox.max_retention before it was delivered again",
								 item->event.position);

	obx_failure_record(batch->subscription->id, item->event.position, error);
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("subscription \"%s\" lost events: %s", batch->subscription->name, error)));
	obx_delivery_delete(batch->subscription->id, item->event.position);
	obx_lane_remove(batch->lane, item->event.position);
}

void
obx_batch_write_item(ObxBatch *batch, ObxItem *item, ObxProgress *progress)
{
	switch (item->state)
	{
		case OBX_ITEM_DONE:
			progress->delivered++;
			if (batch->is_retry)
				end_retry(batch, item, progress, item->event.attempt);
			break;
		case OBX_ITEM_FAILED:
			progress->failed++;
			if (batch->is_retry)
			{
				obx_delivery_update(item->delivery);
				obx_lane_change(batch->lane, item->delivery);
			}
			else
				obx_delivery_insert(item->delivery);
			obx_failure_record(batch->subscription->id, item->event.position,
							   item->delivery->error);
			break;
		case OBX_ITEM_PARKED:
			if (!batch->is_retry)
				obx_batch_park(batch, item);
			break;
		case OBX_ITEM_SKIPPED:
			if (batch->is_retry)
				end_retry(batch, item, progress, OBX_SETTLED_FILTERED);
			break;
		case OBX_ITEM_LOST:
			end_lost(batch, item);
			break;
		case OBX_ITEM_PENDING:
			elog(ERROR, "event at position " INT64_FORMAT " was not dealt with",
				 item->event.position);
	}
}

void
obx_batch_fail(ObxBatch *batch, ObxItem *item, const ErrorData *error, ObxProgress *progress)
{
	obx_item_fail(batch, item, OBX_VERDICT_FAILURE, error);
	obx_batch_write_item(batch, item, progress);
}

bool
obx_batch_write(ObxBatch *batch, ObxProgress *progress)
{
	int64		position = progress->position;

	for (int i = 0; i < batch->reached; i++)
		obx_batch_write_item(batch, &batch->items[i], progress);

	obx_lane_refresh_heads(batch->lane);

	if (batch->is_retry)
		return batch->reached > 0;
	if (batch->reached == batch->nitems)
	{
		progress->position = batch->read_position;
		progress->event_id = batch->read_id;
	}
	else if (batch->reached > 0)
	{
		progress->position = batch->items[batch->reached - 1].event.position;
		progress->event_id = batch->items[batch->reached - 1].event.id;
	}
	return batch->reached > 0 || progress->position != position;
}
