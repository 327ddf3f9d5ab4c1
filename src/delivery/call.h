/*
 * What surrounds every call of a subscriber.
 */
#ifndef OBX_CALL_H
#define OBX_CALL_H

#include "base/limit.h"
#include "catalog/subscription.h"
#include "delivery/target.h"

/* How long a call may take, in microseconds, 0 for no limit: outbox.max_timeout counts. */
extern int64 obx_call_time_limit(const ObxSubscription *subscription);

/* What surrounds a call, on the caller's stack. */
typedef struct ObxCall
{
	int			nest_level;
	ObxLimit	former;
} ObxCall;

/*
 * Around each call of the subscriber's code, which begins now (by
 * obx_clock_now()): time limit, nested settings, deferred constraints.  After
 * an error the guard around (base/guard.h) undoes what end would have.
 */
extern void obx_call_begin(ObxCall *call, const ObxSubscription *subscription,
						   TimestampTz now);
extern void obx_call_end(const ObxCall *call);

/* Delivers in the way of the target, with that around it where it runs code. */
extern void obx_call_deliver(ObxTarget *target, const ObxTargetEvent *events, int count,
							 TimestampTz now);

#endif							/* OBX_CALL_H */
