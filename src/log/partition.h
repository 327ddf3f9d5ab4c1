/*
 * Partitions of the log: which there are.
 */
#ifndef OBX_PARTITION_H
#define OBX_PARTITION_H

#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "log/bound.h"

/*
 * The partitions in the order of their bounds, the default one last; all of
 * those in which a snapshot taken before may see events.  The array is a
 * cache's: valid until the transaction ends or the next call, and free of
 * charge for those who ask again and again.
 */
extern const ObxPartition *obx_partition_array(int *count);

/*
 * Those of them that may hold events of times from "first" to "last", but for
 * the default one, which may hold events of any time.
 */
extern const ObxPartition *obx_partitions_between(TimestampTz first, TimestampTz last,
												  int *count);

/* The same as obx_partition_array(), in a list of the caller's. */
extern List *obx_partition_list(void);

/* Another number than before if there may be others than before. */
extern uint64 obx_partition_version(void);

/* The partition for an event of that time. */
extern Oid	obx_partition_find(TimestampTz time);

/* The index on (xid, id) of a partition; ereports if it has none. */
extern Oid	obx_partition_index(Relation partition);

extern void obx_partition_init(void);

#endif							/* OBX_PARTITION_H */
