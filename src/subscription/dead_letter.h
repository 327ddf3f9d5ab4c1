/*
 * Dead letters: back to delivery, or away.
 */
#ifndef OBX_DEAD_LETTER_H
#define OBX_DEAD_LETTER_H

#include "catalog/subscription.h"

/*
 * Makes the dead letter at a position, or with position 0 all there are, due
 * for delivery with fresh attempts.  Returns how many; ereports if a position
 * is none.  The caller holds the subscription's lock; waits for the lanes'.
 */
extern int64 obx_dead_letter_redrive(const ObxSubscription *subscription, int64 position);

/* Likewise: removes them, and what they blocked goes on. */
extern int64 obx_dead_letter_discard(const ObxSubscription *subscription, int64 position);

#endif							/* OBX_DEAD_LETTER_H */
