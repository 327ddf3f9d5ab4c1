/*
 * All lanes of a subscription at once: moving them, and dividing them anew.
 */
#ifndef OBX_DIVIDE_H
#define OBX_DIVIDE_H

#include "catalog/subscription.h"

/* What a seek drops. */
typedef struct ObxDropped
{
	int64		retries;
	int64		parked;
	int64		windows;		/* of an aggregate, that were open */
} ObxDropped;

/*
 * Makes "position" the next one of all lanes, and writes it to *subscription
 * and its row.  The caller holds the subscription's lock; waits for the
 * lanes'.
 */
extern void obx_divide_seek(ObxSubscription *subscription, int64 position, ObxDropped *dropped);

/* Does the change move what waits in lanes, or give events other lanes? */
extern bool obx_divide_is_needed(const ObxSubscription *old, const ObxSubscription *new);

/*
 * Makes the lanes those of *new, which is the same subscription as *old with
 * other properties; the caller writes its row.  No event is lost or handled
 * twice.  Locks as above.
 */
extern void obx_divide_lanes(const ObxSubscription *old, ObxSubscription *new);

#endif							/* OBX_DIVIDE_H */
