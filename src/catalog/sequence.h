/*
 * Sequences of ours, from below.
 */
#ifndef OBX_SEQUENCE_H
#define OBX_SEQUENCE_H

#include "catalog/names.h"

/* The last value that was drawn, 0 if none was. */
extern int64 obx_sequence_last(ObxObject sequence);

/* The next value will be above that one; a sequence never goes back. */
extern void obx_sequence_raise(ObxObject sequence, int64 above);

#endif							/* OBX_SEQUENCE_H */
