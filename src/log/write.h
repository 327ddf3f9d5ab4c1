/*
 * Writing rows into a partition of the log.
 */
#ifndef OBX_WRITE_H
#define OBX_WRITE_H

#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* The partition for events of that time, locked for writing. */
extern Relation obx_write_open_partition(TimestampTz time);

/*
 * Inserts the current transaction's events with those ids, which rise.  Leaks
 * into the current memory context if there is more than one.
 */
extern void obx_write_rows(Relation partition, TupleTableSlot **slots, const int64 *ids,
						   int count);

#endif							/* OBX_WRITE_H */
