/*
 * A batch: events collected for one lane, and their delivery.
 */
#ifndef OBX_BATCH_H
#define OBX_BATCH_H

#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "delivery/target.h"
#include "dispatch/filter.h"
#include "dispatch/former_lanes.h"
#include "dispatch/lane.h"
#include "dispatch/watcher.h"
#include "dispatch/retry.h"

typedef enum ObxItemState
{
	OBX_ITEM_PENDING,			/* not reached */
	OBX_ITEM_DONE,				/* delivered */
	OBX_ITEM_FAILED,			/* its delivery row says what comes next */
	OBX_ITEM_PARKED,			/* waits behind its key */
	OBX_ITEM_SKIPPED,			/* does not pass the filter */
	OBX_ITEM_LOST				/* a retry of what max_retention has dropped */
} ObxItemState;

/* An event that the lane has to deal with. */
typedef struct ObxItem
{
	ObxTargetEvent event;
	uint64		xid;
	ObxOrderKey key;
	ObxItemState state;
	ObxDelivery *delivery;		/* its row, NULL for an event met the first
								 * time */
	bool		counted;		/* the row counts this attempt already */
	int			behind;			/* of retries: the item before it that it
								 * waits for if that is not done, -1 for none */
} ObxItem;

typedef struct ObxBatch
{
	const ObxSubscription *subscription;
	ObxLane    *lane;
	ObxTarget  *target;			/* NULL: only the filter is called */
	ObxFilter  *filter;			/* NULL for none */
	ObxWatcherYield yield;
	ObxWatcherNote note;
	void		(*abandon_session) (void);	/* removes what calls that were
											 * undone have left in the
											 * session; NULL: it is not ours
											 * to clear */

	List	   *history;		/* what former lanes dealt with */
	bool		pins;			/* may pin events of the stream: released by
								 * who made the batch */
	bool		is_shared;		/* other lanes want the same stretch */
	int64		retry_before;	/* take no retries from here on */
	int64		read_before;	/* nor new events from here on */
	bool		is_retry;		/* items come from outbox.delivery */
	int			nitems;
	int			room;			/* for items; more is made as needed */
	ObxItem    *items;
	int			reached;		/* items before this one have been dealt with */
	bool		has_lost;		/* an item is */
	int			failures;
	bool		has_delay;		/* those that fail are tried again after
								 * "delay", in place of the backoff */
	int64		delay;			/* microseconds */
	TupleTableSlot *view;		/* while collecting: for decoding */

	/* how far the log was read, for batches of new events */
	int64		read_position;
	int64		read_id;
	bool		read_all;		/* to the end */
	int64		lost_until;		/* retention took what was not consumed, up to
								 * this position; 0 if it did not */
} ObxBatch;

/* Makes a batch, in CurrentMemoryContext, of nothing yet. */
extern ObxBatch *obx_batch_make(const ObxSubscription *subscription, ObxLane *lane,
								ObxWatcherYield yield);

/*
 * Collect the events that the lane must handle next, at most "limit" items:
 * due retries, with the events parked behind them; or new events after the
 * lane's progress.  They return whether they found any.  A gap in the log ends
 * the collecting of new events: see lost_until.
 */
extern bool obx_batch_collect_retries(ObxBatch *batch, int limit);
extern bool obx_batch_collect_new(ObxBatch *batch, const ObxProgress *progress, int limit);

/*
 * Collects new events by their positions, which are known to match and are in
 * ascending order; those that are no longer kept are left out.  Returns the
 * number of positions processed: fewer than "count" if the batch is full.
 */
extern int	obx_batch_collect_positions(ObxBatch *batch, const int64 *positions, int count);

/*
 * For a batch of one item: writes a row that counts its next attempt, before
 * the call, and moves *progress behind it; the caller advances the progress
 * and commits.  False, with nothing written, where there will be no call.
 */
extern bool obx_batch_mark(ObxBatch *batch, ObxProgress *progress, int64 *position);

/* Collects the event marked so, to be called. */
extern void obx_batch_collect_marked(ObxBatch *batch, int64 position);

/*
 * Delivers the items, in one subtransaction or a few, until all are handled or
 * it is time to stop.  Errors of the subscriber are stored in the items;
 * errors of the infrastructure are raised.  The target must be open.
 */
extern void obx_batch_deliver(ObxBatch *batch);

/*
 * The lane's next events are taken one by one, for a while: a transaction of
 * several failed, and it may be because of that.
 */
extern void obx_batch_take_singly(ObxLane *lane);

/*
 * Writes the outcome of the items to outbox.delivery, counts it in *progress
 * and moves its position.  Returns whether anything changed; if so, the caller
 * advances the progress.
 */
extern bool obx_batch_write(ObxBatch *batch, ObxProgress *progress);

/* A row for the item, parked, which is not written yet. */
extern ObxDelivery *obx_item_make_delivery(ObxBatch *batch, const ObxItem *item);

/*
 * The item has failed: its row says so, and what comes next; later events of
 * its key wait from here on.  Not written yet.
 */
extern void obx_item_fail(ObxBatch *batch, ObxItem *item, ObxVerdict verdict,
						  const ErrorData *error);

/* Does the row's event have the item's key? */
static inline bool
obx_item_has_key_of(const ObxItem *item, const ObxDelivery *delivery)
{
	return item->key.has && delivery->key.has && item->key.hash == delivery->key.hash;
}

/*
 * For items that are handled one by one: writes the outcome of one to
 * outbox.delivery, and counts it in *progress.
 */
extern void obx_batch_write_item(ObxBatch *batch, ObxItem *item, ObxProgress *progress);

/* The same for an item that must wait. */
extern void obx_batch_park(ObxBatch *batch, ObxItem *item);

/* The same for an item that failed; counts it in *progress. */
extern void obx_batch_fail(ObxBatch *batch, ObxItem *item, const ErrorData *error,
						   ObxProgress *progress);

#endif							/* OBX_BATCH_H */
