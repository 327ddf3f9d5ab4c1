/*
 * Which of the open deliveries of a key is tried, and which wait.
 */
#ifndef OBX_SETTLE_H
#define OBX_SETTLE_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"

/* Makes it what the first one of its key is, or what those behind are; writes the row if that is another. */
extern bool obx_settle_delivery(ObxDelivery *delivery, bool is_first);

/* Settles all of a lane. */
extern void obx_settle_lane(const ObxSubscription *subscription, int32 lane);

/* Settles those that wait for one another with the delivery. */
extern void obx_settle_key(const ObxSubscription *subscription, const ObxDelivery *delivery);

#endif							/* OBX_SETTLE_H */
