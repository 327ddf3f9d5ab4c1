/*
 * The transactions whose events one snapshot sees and an earlier one does not.
 */
#ifndef OBX_DIFFERENCE_H
#define OBX_DIFFERENCE_H

#include "utils/hsearch.h"
#include "utils/snapshot.h"

#include "log/xid_snapshot.h"

/*
 * Of what the upper one of two nested snapshots sees and the lower one does not:
 * a table of ObxTally by xid, of transactions that have events; in
 * CurrentMemoryContext.  "snapshot" is the upper one, by which rows are visible.
 * Takes what transactions say of themselves out of outbox.tally: the caller gives
 * them their positions.
 */
extern HTAB *obx_difference_find(const ObxXidSnapshot *lower, const ObxXidSnapshot *upper,
								 Snapshot snapshot);

/*
 * Has a transaction that had ended in the upper one and not in the lower one,
 * other than "own", an event that the snapshot sees?
 */
extern bool obx_difference_has_event(const ObxXidSnapshot *lower, const ObxXidSnapshot *upper,
									 uint64 own, Snapshot snapshot);

#endif							/* OBX_DIFFERENCE_H */
