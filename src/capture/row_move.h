/*
 * Triggers that fire for parts of one change: rows that change partition, and
 * TRUNCATE of a table with those below it.
 */
#ifndef OBX_ROW_MOVE_H
#define OBX_ROW_MOVE_H

#include "executor/tuptable.h"
#include "utils/rel.h"

/* Registers callbacks and a hook; from obx_capture_init() only. */
extern void obx_row_move_init(void);

/* Was the row deleted because an update puts it into another partition? */
extern bool obx_row_move_is_departure(HeapTuple old);

/*
 * Remembers a row that has left a partition, for the rule with that trigger,
 * and the id of the event that says so, or 0.
 */
extern void obx_row_move_begin(Oid rule, Oid partition, HeapTuple old, int64 event);

/*
 * If a row has come by the update that made the rule's last row leave: the row
 * as it was, in a slot of this partition's layout, which the caller drops.
 * *event is what obx_row_move_begin() was told; also, with no row, where the
 * partition is foreign, of whose rows only the order tells that they came.
 */
extern TupleTableSlot *obx_row_move_finish(Oid rule, Relation partition, HeapTuple new,
										   int64 *event);

/*
 * Has this TRUNCATE been captured already, for the table that the rule is on?
 * Every table that the command truncates fires its own trigger, those above
 * before those below.
 */
extern bool obx_row_move_covers_truncate(Oid trigger, Oid source_trigger);

#endif							/* OBX_ROW_MOVE_H */
