/*
 * The row of outbox.segment at a position.
 */
#ifndef OBX_PROBE_H
#define OBX_PROBE_H

#include "access/genam.h"
#include "access/htup.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct ObxProbe
{
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	bool		own_snapshot;
	IndexScanDesc scan;
	TupleTableSlot *slot;
} ObxProbe;

/* With snapshot NULL it takes a new one, as obx_scan_begin() does. */
extern void obx_probe_begin(ObxProbe *probe, Snapshot snapshot);

/*
 * The last row that begins at or before the position, or NULL.  Valid until
 * the next call.
 */
extern HeapTuple obx_probe_at(ObxProbe *probe, int64 position);

extern void obx_probe_end(ObxProbe *probe);

#endif							/* OBX_PROBE_H */
