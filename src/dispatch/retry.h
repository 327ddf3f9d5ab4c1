/*
 * What an error means, and when to try again.
 */
#ifndef OBX_RETRY_H
#define OBX_RETRY_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"

typedef enum ObxVerdict
{
	OBX_VERDICT_FAILURE,		/* the event's: an attempt is used up */
	OBX_VERDICT_LATER,			/* the handler asks for another time */
	OBX_VERDICT_DEAD,			/* the handler gives the event up */
	OBX_VERDICT_AGAIN,			/* nobody's: again at once */
	OBX_VERDICT_INFRASTRUCTURE	/* the server's: back off */
} ObxVerdict;

/* How often an event is tried again at once before it counts as failing. */
#define OBX_TRIES_AT_ONCE 5

extern ObxVerdict obx_retry_judge(int sqlstate);

/*
 * Fills in what becomes of the event after a failure: state, open, attempts,
 * next_at and the error's columns.  delivery->attempts are those before.
 */
extern void obx_retry_note_failure(const ObxSubscription *subscription, ObxVerdict verdict,
								   const ErrorData *error, ObxDelivery *delivery);

#endif							/* OBX_RETRY_H */
