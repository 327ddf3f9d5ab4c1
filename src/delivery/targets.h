/*
 * The kinds of targets.
 */
#ifndef OBX_TARGETS_H
#define OBX_TARGETS_H

#include "delivery/target.h"

/*
 * Opens the subscription's target, in CurrentMemoryContext.  Raises an error
 * if it cannot work at all (handler missing, not executable by the owner).
 */
extern ObxTarget *obx_targets_open(const ObxSubscription *subscription);

#endif							/* OBX_TARGETS_H */
