/*
 * Changing a subscription.
 */
#ifndef OBX_ALTER_H
#define OBX_ALTER_H

#include "catalog/subscription.h"

/*
 * Stores what a subscription is to be from now on, and moves its lanes if that
 * is needed.  The caller holds its lock and has checked the rest; "function"
 * is the calling SQL function, for messages.  If "types" stay, they are the
 * same pointer.
 */
extern void obx_alter_apply(const ObxSubscription *old, ObxSubscription *new,
							const char *function);

#endif							/* OBX_ALTER_H */
