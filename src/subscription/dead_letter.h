/*
 * Dead letters: back to delivery, or away.
 */
#ifndef OBX_DEAD_LETTER_H
#define OBX_DEAD_LETTER_H

#include "catalog/subscription.h"

/*
 * Makes the dead letter at a position, or with position 0 all dead letters,
 * due for delivery with fresh attempts.  Returns their number; ereports if
 * there is none at the position.  The caller holds the subscription's lock;
 * waits for the lanes'.
 */
extern int64 obx_dead_letter_redrive(const ObxSubscription *subscription, int64 position);

/* Removes them in the same way; the events that they blocked go on. */
extern int64 obx_dead_letter_discard(const ObxSubscription *subscription, int64 position);

#endif							/* OBX_DEAD_LETTER_H */
