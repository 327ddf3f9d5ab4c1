/*
 * The last place in the log's order that events of a partition have.
 */
#ifndef OBX_REACH_H
#define OBX_REACH_H

#include "utils/snapshot.h"

#include "log/segment.h"

/* Has the partition, which is locked, any event that is visible now? */
extern bool obx_reach_is_empty(Oid partition);

/*
 * Has the partition an event of a transaction that had not ended at the
 * snapshot?  Reads a few places of an index, for any size of partition.  With
 * NULL: has it any event at all?
 */
extern bool obx_reach_is_beyond(Oid partition, const ObxXidSnapshot *snapshot);

/*
 * The last segment before a position after which no other one has the same
 * snapshot: the events that had ended at its snapshot are exactly those with
 * positions up to its last.  NULL if there is none.
 */
extern ObxSegment *obx_reach_find_cut(int64 before);

/*
 * For a partition that does not reach beyond the cut: the first segment whose
 * snapshot all its events had ended at, and the last segment.
 */
extern ObxSegment *obx_reach_find(Oid partition, const ObxSegment *cut, ObxSegment **last);

#endif							/* OBX_REACH_H */
