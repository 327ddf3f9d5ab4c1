/*
 * When the sequencer's process moves scheduled events into the log.
 */
#ifndef OBX_WORKER_SCHEDULED_H
#define OBX_WORKER_SCHEDULED_H

#include "datatype/timestamp.h"

/*
 * Moves a batch of what is due, if anything is, in a transaction of its own;
 * after the doorbell's flag was lowered.  Returns when to call it again if
 * nobody rings; that may be at once.
 */
extern TimestampTz obx_scheduled_run(TimestampTz now);

/* When the next event is due that was known of by then. */
extern TimestampTz obx_scheduled_due(void);

#endif							/* OBX_WORKER_SCHEDULED_H */
