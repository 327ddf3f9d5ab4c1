/*
 * What a lane waits for: its open deliveries, the keys they block.
 */
#ifndef OBX_LANE_H
#define OBX_LANE_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"
#include "executor/tuptable.h"
#include "utils/hsearch.h"

typedef struct ObxLaneKey
{
	int32		subscription;
	int32		lane;
} ObxLaneKey;

/*
 * A lane as this process knows it, from one pass to the next.  It holds what
 * outbox.delivery says as long as the lane's progress has this version:
 * whoever changes the lane's deliveries also advances its progress.
 */
typedef struct ObxLane
{
	ObxLaneKey	key;			/* hash key */
	int64		version;		/* -1: must be loaded */
	Oid			catalog;		/* OID of outbox.subscription: another one's
								 * lanes have the same numbers */
	SubTransactionId loaded_in; /* if that aborts, the version may be
								 * another's */
	MemoryContext memory;		/* holds what follows */
	List	   *open;			/* of ObxDelivery, by position */
	HTAB	   *blocked;		/* hashes of the keys they block */

	/* hints that need not survive */
	bool		retried_last;	/* the last batch was of retries */
	int64		again_position; /* event being tried again at once */
	int			again_count;
} ObxLane;

/* The lane as of a version of its progress; the caller holds its lock. */
extern ObxLane *obx_lane_load(int32 subscription, int32 lane, int64 version);

/* Must an event of this key wait?  Events without a key never do. */
extern bool obx_lane_is_blocked(const ObxLane *lane, const ObxSubscription *subscription,
								bool has_key, int64 key_hash);

/* Adds a copy of a new open delivery, the last one by position. */
extern void obx_lane_add(ObxLane *lane, const ObxDelivery *delivery);

/* When the next retry is due; DT_NOEND for never. */
extern TimestampTz obx_lane_due(const ObxLane *lane);

/* The lane's state is not what was loaded any more. */
extern void obx_lane_forget(ObxLane *lane);

/*
 * Once open deliveries have changed: of each key the first one left is tried
 * next, now if it was parked without an attempt; those behind it are parked.
 */
extern void obx_lane_settle(const ObxSubscription *subscription, int32 lane);

/* Takes the lane's lock until the transaction ends; false if someone has it. */
extern bool obx_lane_lock(int32 subscription, int32 lane, bool wait);

/* Gives the lock back at once, taken once and nothing changed under it. */
extern void obx_lane_unlock(int32 subscription, int32 lane);

/*
 * The subscription's own lock, until the transaction ends: whoever changes its
 * row, or more of a lane than its pass does, takes it first.
 */
extern void obx_subscription_lock(int32 subscription);

/* The lane of an event, among "concurrency" lanes. */
extern int	obx_lane_of_event(int concurrency, bool has_key, int64 key_hash, int64 event_id);

/* The ordering key of an event, by a hash, the same in every process and version. */
extern void obx_event_key(TupleTableSlot *event, bool *has_key, int64 *key_hash);

#endif							/* OBX_LANE_H */
