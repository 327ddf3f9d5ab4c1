/*
 * What became of each attempt at an event that failed.
 */
#ifndef OBX_ATTEMPTS_H
#define OBX_ATTEMPTS_H

#include "catalog/delivery.h"

/*
 * Adds the last failure, as the delivery has it, to its history, as the attempt
 * of that number.  Where that one did not count, or was noted before it began,
 * it takes the place of the same attempt's former entry.
 */
extern void obx_attempts_note(ObxDelivery *delivery, int number);

/* Begins anew: the attempts that follow are others. */
extern void obx_attempts_note_redrive(ObxDelivery *delivery);

#endif							/* OBX_ATTEMPTS_H */
