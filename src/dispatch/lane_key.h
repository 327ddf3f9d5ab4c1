/*
 * The key of an event, by which it waits for others, and its lane.
 */
#ifndef OBX_LANE_KEY_H
#define OBX_LANE_KEY_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"
#include "executor/tuptable.h"

/* The lane of an event, among "concurrency" lanes. */
extern int	obx_lane_of_event(int concurrency, ObxOrderKey key, int64 event_id);

/*
 * The key by which an event of the subscription waits for others, or none
 * under "none".  For an aggregate, events without a key are one group.
 */
extern void obx_lane_key_of_event(const ObxSubscription *subscription, TupleTableSlot *event,
								  ObxOrderKey *key);

/* The hash of the event's own key, in place. */
extern void obx_lane_key(const ObxSubscription *subscription, ObxOrderKey *key);

/* The same for a key that an aggregate folds by; NULL for none. */
extern int64 obx_lane_hash_of_group(text *key);

/* The ordering key of an event, by a hash, the same in every process and version. */
extern void obx_event_key(TupleTableSlot *event, ObxOrderKey *key);

#endif							/* OBX_LANE_KEY_H */
