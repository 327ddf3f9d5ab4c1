/*
 * Handing out events to consumers that pull.
 */
#ifndef OBX_HANDOUT_H
#define OBX_HANDOUT_H

#include "catalog/subscription.h"
#include "delivery/target.h"

/* A lease of this length ends with the transaction. */
#define OBX_HANDOUT_NO_LEASE	(-1)

typedef struct ObxHandout
{
	int64		receipt;
	int			nevents;
	ObxTargetEvent *events;
} ObxHandout;

/*
 * Hands out events of a lane that is free now, for "lease" microseconds; false
 * if there are none to give.  Never waits.  What is handed out lives in
 * CurrentMemoryContext.
 */
extern bool obx_handout_receive(const ObxSubscription *subscription, int max_events,
								int64 lease, ObxHandout *handout);

/*
 * Hands out the next events in the lane of a receipt, under the same receipt.
 * The lease holds for everything that is handed out under it, even if there is
 * nothing to add.
 */
extern bool obx_handout_go_on(const ObxSubscription *subscription, int64 receipt,
							  int max_events, int64 lease, ObxHandout *handout);

/*
 * Would receive hand out anything now?  If so, the transaction must be rolled
 * back; otherwise it may commit, which keeps the findings.  Lowers *next to
 * the time when the answer may change, in microseconds from now.
 */
extern bool obx_handout_is_ready(const ObxSubscription *subscription, int64 *next);

#endif							/* OBX_HANDOUT_H */
