/*
 * Cleaning up after subscriptions and lanes that are gone.
 */
#ifndef OBX_UPKEEP_H
#define OBX_UPKEEP_H

/*
 * Deletes rows of progress, deliveries and windows that belong to no
 * subscription any more, and progress of lanes that are gone, where no pass is
 * using it: a bounded number of them, and goes on there with the next call.
 * True if there are more.  Never waits for another transaction.
 */
extern bool obx_upkeep_clean(void);

/*
 * The first step for a subscription, in the transaction that removes it and
 * holds the locks of its lanes.
 */
extern void obx_upkeep_begin(int32 subscription);

#endif							/* OBX_UPKEEP_H */
