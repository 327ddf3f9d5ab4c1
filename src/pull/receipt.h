/*
 * Receipts: the consumer says what became of events that were handed out.
 */
#ifndef OBX_RECEIPT_H
#define OBX_RECEIPT_H

#include "datatype/timestamp.h"

#include "catalog/subscription.h"
#include "pull/handed.h"
#include "pull/lane.h"

/*
 * Finds the receipt's lane, takes its lock and reads it under that lock;
 * ereports for a receipt that has run out. "to_go_on" accepts a receipt whose
 * events are all acked.
 */
extern void obx_receipt_require(ObxPullLane *work, const ObxSubscription *subscription,
								int64 receipt, bool to_go_on);

/* Which events are acked. */
typedef struct ObxAck
{
	int64		up_to;			/* up to and with that position; 0: not asked
								 * for */
	int64	   *positions;		/* or these, ascending; NULL and up_to 0: all */
	int			npositions;
} ObxAck;

/*
 * Events of the hand-out are dealt with.  ereports for a receipt that has run
 * out, or a position that is not handed out under it.
 */
extern void obx_receipt_ack(const ObxSubscription *subscription, int64 receipt,
							const ObxAck *ack);

/*
 * Events failed.  They get their delivery rows; they and what must wait for
 * them are taken out of the hand-out.
 */
extern void obx_receipt_nack(const ObxSubscription *subscription, int64 receipt,
							 const ObxNack *nack);

/* Lets the lease of all events that are handed out end after so many microseconds. */
extern TimestampTz obx_receipt_extend(const ObxSubscription *subscription, int64 receipt,
									  int64 lease);

/* Gives back the rest of the hand-out. */
extern void obx_receipt_release(const ObxSubscription *subscription, int64 receipt);

#endif							/* OBX_RECEIPT_H */
