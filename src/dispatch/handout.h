/*
 * Hand-outs to consumers that pull.
 */
#ifndef OBX_HANDOUT_H
#define OBX_HANDOUT_H

#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "delivery/target.h"

/* Events in one hand-out, at most. */
#define OBX_HANDOUT_MAX		10000

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
 * The hand-out's events are dealt with: all that are left of it, or up to and
 * with a position.  up_to 0 stands for all.  ereports for a receipt that has
 * run out, or a position that is not handed out under it.
 */
extern void obx_handout_ack(const ObxSubscription *subscription, int64 receipt, int64 up_to);

/*
 * The event at that position failed.  It gets its delivery row; it and what
 * must wait for it is taken out of the hand-out.
 */
extern void obx_handout_nack(const ObxSubscription *subscription, int64 receipt,
							 int64 position, const char *error);

/*
 * Forgets what is handed out and what was read: the lane goes on after
 * progress->position.  For whoever moves that, under the lane's lock.
 */
extern void obx_handout_drop(ObxProgress *progress);

#endif							/* OBX_HANDOUT_H */
