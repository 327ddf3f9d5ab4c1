/*
 * The outcome of an event in a subscription, as far as it is known.
 */
#ifndef OBX_OUTCOME_H
#define OBX_OUTCOME_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"
#include "log/read.h"

typedef enum ObxOutcomeState
{
	OBX_OUTCOME_UNWANTED,		/* its type is not asked for */
	OBX_OUTCOME_EARLIER,		/* it is from before the subscription's start */
	OBX_OUTCOME_PENDING,		/* not come to yet */
	OBX_OUTCOME_HANDED_OUT,		/* with a consumer that pulls */
	OBX_OUTCOME_RETRYING,
	OBX_OUTCOME_PARKED,
	OBX_OUTCOME_DEAD,
	OBX_OUTCOME_DELIVERED,
	OBX_OUTCOME_FILTERED,		/* the filter left it out */
	OBX_OUTCOME_DISCARDED,		/* a dead letter that was discarded */
	OBX_OUTCOME_PASSED			/* dealt with: no record says how */
} ObxOutcomeState;

typedef struct ObxOutcome
{
	ObxOutcomeState state;
	int			lane;
	int			attempts;		/* so far, -1: not known */
	TimestampTz at;				/* when it came to that, 0: not known */
	TimestampTz until;			/* handed out: when the lease ends */
	ObxDelivery *delivery;		/* its row, NULL for none */
} ObxOutcome;

/* A subscription that is asked about events. */
typedef struct ObxOutcomes ObxOutcomes;

/*
 * Reads what is needed for many questions once, into CurrentMemoryContext,
 * which must stay the same for all that follows.
 */
extern ObxOutcomes *obx_outcome_open(const ObxSubscription *subscription);

/* The event's position may be 0: it has none yet. */
extern void obx_outcome_find(ObxOutcomes *follower, const ObxReadEvent *event,
							 ObxOutcome *outcome);

/* The position up to which the event's lane has come. */
extern int64 obx_outcome_position(ObxOutcomes *follower, int lane);

/* The word for a state, NULL for an event that does not concern the subscription. */
extern const char *obx_outcome_name(ObxOutcomeState state);

#endif							/* OBX_OUTCOME_H */
