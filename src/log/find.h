/*
 * Finding events without reading in position order.
 */
#ifndef OBX_FIND_H
#define OBX_FIND_H

#include "executor/tuptable.h"
#include "utils/snapshot.h"

/*
 * Finds one event by its transaction and id; false if it is not kept.  Its
 * position selects the partition; with 0, for an unknown position, every
 * partition is searched.  The caller makes the slot with
 * obx_event_make_slot().
 */
extern bool obx_event_find(Snapshot snapshot, uint64 xid, int64 id, int64 position,
						   TupleTableSlot *slot);
extern TupleTableSlot *obx_event_make_slot(void);

/*
 * Passes the newest events to the visitor, newest first, including those
 * without a position, until the visitor returns false or "limit" were passed.
 * For transactions that ran at the same time, the order is roughly that of
 * their ids.
 */
typedef bool (*ObxEventVisitor) (TupleTableSlot *slot, void *arg);

extern void obx_event_visit_newest(Snapshot snapshot, int64 limit, ObxEventVisitor visit,
								   void *arg);

#endif							/* OBX_FIND_H */
