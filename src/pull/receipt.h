/*
 * What became of events that were handed out.
 */
#ifndef OBX_RECEIPT_H
#define OBX_RECEIPT_H

#include "catalog/subscription.h"

/*
 * The hand-out's events are dealt with: all that are left of it, or up to and
 * with a position.  up_to 0 stands for all.  ereports for a receipt that has
 * run out, or a position that is not handed out under it.
 */
extern void obx_receipt_ack(const ObxSubscription *subscription, int64 receipt, int64 up_to);

/*
 * The event at that position failed.  It gets its delivery row; it and what
 * must wait for it is taken out of the hand-out.
 */
extern void obx_receipt_nack(const ObxSubscription *subscription, int64 receipt,
							 int64 position, const char *error);

#endif							/* OBX_RECEIPT_H */
