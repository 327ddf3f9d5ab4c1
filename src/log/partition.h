/*
 * The list of partitions of the log.
 */
#ifndef OBX_PARTITION_H
#define OBX_PARTITION_H

#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "log/bound.h"

/*
 * The partitions in the order of their bounds, the default one last.  It
 * includes all partitions in which an earlier snapshot may see events.  The
 * array belongs to a cache: it is valid until the transaction ends or the next
 * call, and repeated calls cost nothing.
 */
extern const ObxPartition *obx_partition_array(int *count);

/*
 * Those partitions that may contain events of times from "first" to "last",
 * except the default one, which may contain events of any time.
 */
extern const ObxPartition *obx_partitions_between(TimestampTz first, TimestampTz last,
												  int *count);

/* The same as obx_partition_array(), in a list of the caller's. */
extern List *obx_partition_list(void);

/*
 * Returns another number than before if there may be other partitions than
 * before.
 */
extern uint64 obx_partition_version(void);

/* The partition for an event of that time. */
extern Oid	obx_partition_find(TimestampTz time);

/* The index on (xid, id) of a partition; ereports if it has none. */
extern Oid	obx_partition_index(Relation partition);

extern void obx_partition_init(void);

#endif							/* OBX_PARTITION_H */
