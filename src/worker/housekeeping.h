/*
 * What the sequencer's process does by the clock.
 */
#ifndef OBX_HOUSEKEEPING_H
#define OBX_HOUSEKEEPING_H

#include "datatype/timestamp.h"

/* Does what is due, each thing in a transaction of its own; returns when next. */
extern TimestampTz obx_housekeeping_run(void);

#endif							/* OBX_HOUSEKEEPING_H */
