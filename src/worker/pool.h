/*
 * The pool: how many dispatchers a database has, and for which owners.
 */
#ifndef OBX_POOL_H
#define OBX_POOL_H

#include "datatype/timestamp.h"

/*
 * Sequencer: wakes, starts and dismisses dispatchers of its database so that
 * READY lanes are served.  Returns when to look again if nothing happens.
 * Needs a transaction only to start one, and begins it itself.
 */
extern TimestampTz obx_pool_adjust(TimestampTz now);

/* Sequencer, at its start: takes over what its predecessor left behind. */
extern void obx_pool_take_over(void);

/* Sequencer, at its end: all dispatchers of its database go too. */
extern void obx_pool_dismiss(void);

#endif							/* OBX_POOL_H */
