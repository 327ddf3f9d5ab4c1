/*
 * The life of a subscription: made, changed, paused, resumed, removed.
 */
#ifndef OBX_LIFECYCLE_H
#define OBX_LIFECYCLE_H

#include "catalog/subscription.h"

/*
 * Retention drops nothing from now on until the transaction ends: what is
 * found in the log is still there when the subscription that needs it is
 * committed.
 */
extern void obx_lifecycle_pin_retention(void);

/*
 * The position of the first event to come; fills in which events with a later
 * position had been committed already, and are not to be delivered.
 */
extern int64 obx_lifecycle_start_now(ObxSubscription *subscription);

/*
 * Stores a subscription, with the progress of each lane before its first
 * position.  The caller has pinned retention.
 */
extern void obx_lifecycle_create(ObxSubscription *subscription);

/*
 * Stores what a subscription is from now on, and moves its lanes if that is
 * needed.  The caller holds its lock.  If the types stay, "types" is the same
 * pointer in both.
 */
extern void obx_lifecycle_change(const ObxSubscription *old, ObxSubscription *new);

/* The caller holds the subscription's lock. */
extern void obx_lifecycle_remove(ObxSubscription *subscription);

/* By the current user.  The caller holds the subscription's lock. */
extern void obx_lifecycle_set_paused(ObxSubscription *subscription, bool paused);

#endif							/* OBX_LIFECYCLE_H */
