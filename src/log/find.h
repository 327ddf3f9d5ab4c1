/*
 * Finding events without reading in position order.
 */
#ifndef OBX_FIND_H
#define OBX_FIND_H

#include "executor/tuptable.h"
#include "utils/snapshot.h"

/*
 * One event by its transaction and id; false if it is not kept.  Its position
 * says in which partition to look; 0, if it is not known, costs a look at
 * each.  The slot is made by the caller by obx_event_make_slot().
 */
extern bool obx_event_find(Snapshot snapshot, uint64 xid, int64 id, int64 position,
						   TupleTableSlot *slot);
extern TupleTableSlot *obx_event_make_slot(void);

/*
 * Shows the newest events, newest first, those without a position among them,
 * until the visitor says false or "limit" were shown.  Between transactions
 * that ran beside each other the order is roughly that of their ids.
 */
typedef bool (*ObxEventVisitor) (TupleTableSlot *slot, void *arg);

extern void obx_event_visit_newest(Snapshot snapshot, int64 limit, ObxEventVisitor visit,
								   void *arg);

#endif							/* OBX_FIND_H */
