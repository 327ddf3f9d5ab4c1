/*
 * Collecting a batch: reading the events that a lane must handle next.
 *
 * Events are copied into memory, because after a failure the events before it
 * are delivered again.  The number of events, their size, and the amount of
 * log read for it limit a batch.  So a subscription that selects few events
 * also commits its progress now and then.
 *
 * Runs before any of the subscriber's code.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "dispatch/batch.h"
#include "dispatch/match.h"
#include "dispatch/stream.h"
#include "log/find.h"
#include "log/read.h"
#include "log/segment.h"
#include "log/xid_snapshot.h"

/* Bytes of events in one batch, beyond the first. */
#define OBX_BATCH_BYTES		(8 * 1024 * 1024)

/*
 * Events read for one batch: a lane to which little matches reads far, but
 * where others want the same events, no farther than these are kept for them.
 */
#define OBX_BATCH_READ		100000
#define OBX_BATCH_READ_SHARED	(OBX_STREAM_EVENTS / 2)

/* Items for which there is room at first. */
#define OBX_BATCH_ROOM		64

ObxBatch *
obx_batch_make(const ObxSubscription *subscription, ObxLane *lane, ObxWatcherYield yield)
{
	ObxBatch   *batch = palloc0(sizeof(ObxBatch));

	batch->subscription = subscription;
	batch->lane = lane;
	batch->yield = yield;
	batch->retry_before = batch->read_before = PG_INT64_MAX;
	batch->history = obx_former_lanes_list(subscription);
	batch->room = Min(subscription->batch_size, OBX_BATCH_ROOM);
	batch->items = palloc(batch->room * sizeof(ObxItem));
	return batch;
}

static ObxItem *
add_item(ObxBatch *batch, const ObxStreamEvent *event)
{
	ObxItem    *item;

	if (batch->nitems == batch->room)
	{
		batch->room *= 2;
		batch->items = repalloc_huge(batch->items, batch->room * sizeof(ObxItem));
	}
	item = &batch->items[batch->nitems++];
	memset(item, 0, sizeof(ObxItem));
	item->event.position = event->position;
	item->event.id = event->id;
	item->event.attempt = 1;
	if (unlikely(batch->history != NIL))
		item->event.is_replay = obx_former_lanes_has(batch->history, true, event->position,
													 event->id, event->key);
	item->event.positioned_at = event->positioned_at;
	item->event.tuple = event->tuple;
	item->event.causation_id = event->causation_id;
	item->event.correlation_id = event->correlation_id;
	item->event.headers = event->headers;
	item->xid = event->xid;
	item->state = OBX_ITEM_PENDING;
	item->behind = -1;
	item->key = event->key;
	obx_lane_key(batch->subscription, &item->key);
	return item;
}

/* Of an event that stands in a slot: a copy. */
static ObxItem *
add_item_from_slot(ObxBatch *batch, TupleTableSlot *slot, int64 position)
{
	ObxStreamEvent event;

	if (batch->view == NULL)
		batch->view = obx_event_make_view();
	obx_event_decode(slot, batch->view, &event);
	event.position = position;
	event.positioned_at = 0;	/* aggregates look it up */
	return add_item(batch, &event);
}

/* Lets go of what only collecting needs. */
static void
end_collecting(ObxBatch *batch)
{
	if (batch->view != NULL)
		ExecDropSingleTupleTableSlot(batch->view);
	batch->view = NULL;
}

/* ---- retries ---- */

/* When the event at a position got it. */
static TimestampTz
find_time(int64 position)
{
	const ObxSegment *segment = obx_segment_find_at(position, GetActiveSnapshot());

	if (segment == NULL || segment->first_position > position)
		elog(ERROR, "segment of position " INT64_FORMAT " is gone", position);
	return segment->time;
}

/* Retention takes nothing that awaits a retry, unless by max_retention. */
static ObxItem *
add_lost(ObxBatch *batch, const ObxDelivery *delivery)
{
	int64		oldest = obx_segment_oldest(NULL);
	ObxStreamEvent event = {
		.position = delivery->position,
		.id = delivery->event_id,
		.xid = delivery->xid
	};
	ObxItem    *item;

	if (oldest != 0 && delivery->position >= oldest)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("event " INT64_FORMAT " at position " INT64_FORMAT
						" awaits a retry but is not in the log any more",
						delivery->event_id, delivery->position)));
	item = add_item(batch, &event);
	item->state = OBX_ITEM_LOST;
	batch->has_lost = true;
	return item;
}

/* Adds the event of a delivery row; the slot is for reading it. */
static ObxItem *
add_delivery(ObxBatch *batch, int64 position, TupleTableSlot *slot)
{
	ObxDelivery *delivery = obx_delivery_find(batch->subscription->id, position);
	ObxItem    *item;

	if (delivery == NULL)
		elog(ERROR, "delivery of position " INT64_FORMAT " is gone", position);
	if (!obx_event_find(GetActiveSnapshot(), delivery->xid, delivery->event_id, position, slot))
		return add_lost(batch, delivery);
	item = add_item_from_slot(batch, slot, delivery->position);
	item->event.attempt = delivery->attempts + 1;
	item->key = delivery->key;
	if (batch->subscription->kind == OBX_KIND_AGGREGATE)
		item->event.positioned_at = find_time(position);
	item->delivery = delivery;
	return item;
}

void
obx_batch_collect_marked(ObxBatch *batch, int64 position)
{
	TupleTableSlot *slot = obx_event_make_slot();
	ObxItem    *item;

	batch->is_retry = true;
	item = add_delivery(batch, position, slot);
	/* max_retention may have come in between */
	if (item->state != OBX_ITEM_LOST)
	{
		item->event.attempt--;
		item->delivery->attempts--;
		item->counted = true;
	}
	ExecDropSingleTupleTableSlot(slot);
	end_collecting(batch);
}

/*
 * The lane's list is in position order, and so the batch comes out: the first
 * event of a key before those parked behind it.
 */
bool
obx_batch_collect_retries(ObxBatch *batch, int limit)
{
	TupleTableSlot *slot;
	ObxOpen   **due;
	int			count;

	batch->is_retry = true;
	due = obx_lane_list_due(batch->lane, GetCurrentTimestamp(), batch->retry_before,
							limit - batch->nitems, &count);
	if (count == 0)
		return batch->nitems > 0;

	slot = obx_event_make_slot();
	for (int i = 0; i < count; i++)
	{
		ObxWaiting *waiting = due[i]->waiting;
		ObxItem    *item = add_delivery(batch, due[i]->position, slot);

		if (waiting == NULL)
			continue;
		item->behind = waiting->last_item;
		waiting->last_item = batch->nitems - 1;
	}
	for (int i = 0; i < count; i++)
		if (due[i]->waiting != NULL)
			due[i]->waiting->last_item = -1;
	ExecDropSingleTupleTableSlot(slot);
	end_collecting(batch);
	return true;
}

/* ---- new events ---- */

/* Is it this lane's, and does it match? */
static bool
is_wanted(const ObxBatch *batch, const ObxXidSnapshot *start, const ObxStreamEvent *event)
{
	const ObxSubscription *subscription = batch->subscription;
	ObxOrderKey key = event->key;

	/* had its transaction ended before the subscription began? */
	if (start != NULL && obx_xid_snapshot_has_ended(start, event->xid))
		return false;
	if (!obx_subscription_wants_type(subscription, event->type))
		return false;
	/* had a lane dealt with it before lanes were divided anew? */
	if (batch->history != NIL &&
		obx_former_lanes_has(batch->history, false, event->position, event->id, key))
		return false;

	if (subscription->concurrency == 1)
		return true;
	obx_lane_key(subscription, &key);
	return obx_lane_of_event(subscription->concurrency, key,
							 event->id) == batch->lane->key.lane;
}

/* What points into one tuple points into its copy. */
static const void *
move_pointer(const void *pointer, HeapTuple from, HeapTuple to)
{
	return pointer == NULL ? NULL :
		(const char *) to->t_data + ((const char *) pointer - (const char *) from->t_data);
}

/* Adds the event read last; what cannot be pinned where it is kept, is copied. */
static ObxItem *
add_new(ObxBatch *batch, const ObxStreamEvent *event)
{
	ObxItem    *item = add_item(batch, event);

	if (batch->pins && obx_stream_pin())
		return item;
	item->event.tuple = heap_copytuple(event->tuple);
	item->event.correlation_id = move_pointer(event->correlation_id, event->tuple,
											  item->event.tuple);
	item->event.headers = move_pointer(event->headers, event->tuple, item->event.tuple);
	return item;
}

bool
obx_batch_collect_new(ObxBatch *batch, const ObxProgress *progress, int limit)
{
	int			read_limit = batch->is_shared ? OBX_BATCH_READ_SHARED : OBX_BATCH_READ;
	ObxXidSnapshot *start = NULL;
	const ObxStreamEvent *event;
	int			read = 0;
	Size		bytes = 0;

	if (batch->subscription->start_snapshot != (Datum) 0)
		start = obx_xid_snapshot_from_datum(batch->subscription->start_snapshot);

	batch->read_position = progress->position;
	batch->read_id = progress->event_id;
	obx_stream_begin(progress->position, progress->event_id);
	while (batch->nitems < limit && bytes < OBX_BATCH_BYTES && read < read_limit &&
		   batch->read_position + 1 < batch->read_before)
	{
		CHECK_FOR_INTERRUPTS();
		event = obx_stream_next();
		if (event == NULL)
		{
			batch->read_all = true;
			break;
		}
		if (event->position != batch->read_position + 1)
		{
			batch->lost_until = event->position - 1;
			break;
		}
		read++;
		batch->read_position = event->position;
		batch->read_id = event->id;
		if (is_wanted(batch, start, event))
			bytes += add_new(batch, event)->event.tuple->t_len;
	}
	obx_stream_end();
	end_collecting(batch);
	return batch->nitems > 0;
}

/* Positions farther apart are not read from one to the next. */
#define OBX_BATCH_GAP		1000

int
obx_batch_collect_positions(ObxBatch *batch, const int64 *positions, int count)
{
	ObxReader  *reader = NULL;
	ObxReadEvent event = {0};
	Size		bytes = 0;
	int			i;

	for (i = 0; i < count && bytes < OBX_BATCH_BYTES; i++)
	{
		ObxItem    *item;

		if (reader != NULL && positions[i] - event.position > OBX_BATCH_GAP)
		{
			obx_reader_end(reader);
			reader = NULL;
		}
		if (reader == NULL)
			reader = obx_reader_begin(GetActiveSnapshot(), positions[i] - 1, 0, false);
		while (event.position < positions[i] && obx_reader_next(reader, &event))
			CHECK_FOR_INTERRUPTS();
		/* retention may have taken it */
		if (event.position != positions[i])
			continue;

		item = add_item_from_slot(batch, event.slot, event.position);
		bytes += item->event.tuple->t_len;
	}
	if (reader != NULL)
		obx_reader_end(reader);
	end_collecting(batch);
	return i;
}
