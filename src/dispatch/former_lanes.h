/*
 * Events that a subscription handled before its lanes were moved or divided
 * anew.
 */
#ifndef OBX_FORMER_LANES_H
#define OBX_FORMER_LANES_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"

/*
 * Lanes that there were: each dealt with its events from "first" up to its
 * "passed".  Until the next seek these are not to be dealt with again; after
 * it, dealing with them again is a replay.
 */
typedef struct ObxFormerLanes
{
	bool		replayed;		/* a seek came after it */
	bool		keyed;			/* lanes were taken by the key, else by the id */
	int64		first;
	int			nlanes;
	int64	   *passed;			/* of each lane */
	int64		last;			/* the highest of these */
} ObxFormerLanes;

/* A list of ObxFormerLanes, in CurrentMemoryContext; and back. */
extern List *obx_former_lanes_list(const ObxSubscription *subscription);
extern void obx_former_lanes_set(ObxSubscription *subscription, const List *history);

/* The subscription's lanes as a stretch; NULL for what they passed is nothing. */
extern ObxFormerLanes *obx_former_lanes_make(const ObxSubscription *subscription,
											 const int64 *passed);

/* Do both take the same lane for every event? */
extern bool obx_former_lanes_divide_alike(const ObxFormerLanes *one, const ObxFormerLanes *other);

/* Adds a set of lanes, and drops sets that it makes superfluous. */
extern List *obx_former_lanes_add(List *history, ObxFormerLanes *stretch);

/* A seek: all events count as unhandled again. */
extern List *obx_former_lanes_replay(List *history);

/*
 * Drops sets that are no longer needed: all lanes have passed that position,
 * and no event before "oldest" is kept.
 */
extern List *obx_former_lanes_trim(List *history, int64 passed_by_all, int64 oldest);

/*
 * Has the event been handled?  "replayed" selects the lanes before, or since,
 * a seek.
 */
extern bool obx_former_lanes_has(const List *history, bool replayed, int64 position, int64 id,
								 ObxOrderKey key);

#endif							/* OBX_FORMER_LANES_H */
