/*
 * What the sequencer's process does by the clock.
 */
#ifndef OBX_HOUSEKEEPING_H
#define OBX_HOUSEKEEPING_H

#include "datatype/timestamp.h"

/*
 * Does what is due, each thing in a transaction of its own; returns when next.
 *
 * A database that pg_restore is at work in must be left alone: partitions
 * could take the place of those to come, and what is not filled yet looks
 * empty.  "in_use": it has a subscription, or positions; those are restored
 * when all partitions are there.  "settled": it has positions, and the last
 * round could give some; which takes the indexes, that are restored last.
 */
extern TimestampTz obx_housekeeping_run(bool in_use, bool settled);

#endif							/* OBX_HOUSEKEEPING_H */
