/*
 * What subscriptions that are gone left behind.
 */
#ifndef OBX_UPKEEP_H
#define OBX_UPKEEP_H

/*
 * Deletes rows of progress, deliveries and windows that belong to no
 * subscription any more, and progress of lanes that are gone, where no pass is
 * using it: a bounded number of them, and goes on there with the next call.
 * True if there are more.  Waits for nobody's transaction.
 */
extern bool obx_upkeep_clean(void);

#endif							/* OBX_UPKEEP_H */
