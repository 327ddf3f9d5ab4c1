/*
 * What the log holds, as far as it matters to those who load it, or draw ids.
 *
 * There is no index on ids alone.  But a segment tells the highest id up to its
 * end, and what has no position yet begins at the oldest transaction that was
 * running then; so only that stretch of the index on (xid, id) is read.
 *
 * Must not know subscribers.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "log/event.h"
#include "log/highest.h"
#include "log/partition.h"
#include "log/segment.h"

/* The highest id that the partition holds of transactions from "xid" on. */
static int64
find_highest(const ObxPartition *partition, uint64 xid, Snapshot snapshot, bool any)
{
	Relation	table = table_open(partition->relid, AccessShareLock);
	Oid			indexid = obx_partition_index(table);
	Relation	index;
	TupleTableSlot *slot;
	IndexScanDesc scan;
	ScanKeyData key;
	int64		highest = 0;

	index = index_open(indexid, AccessShareLock);
	slot = table_slot_create(table, NULL);
	scan = obx_index_beginscan(table, index, snapshot, 1);
	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		highest = Max(highest, DatumGetInt64(slot_getattr(slot, OBX_EVENT_ID + 1, &isnull)));
		if (any)
			break;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
	return highest;
}

int64
obx_log_highest_id(void)
{
	ObxSegment *last = obx_segment_find_last(NULL);
	int64		highest = last != NULL ? last->highest_id : 0;
	uint64		xid = last != NULL ? last->snapshot->xmin : 0;
	ListCell   *lc;

	/* whatever became of a transaction, its ids may have been seen */
	foreach(lc, obx_partition_list())
		highest = Max(highest, find_highest(lfirst(lc), xid, SnapshotAny, false));
	return highest;
}

static bool
has_events(Snapshot snapshot)
{
	ListCell   *lc;

	foreach(lc, obx_partition_list())
		if (find_highest(lfirst(lc), 0, snapshot, true) > 0)
		return true;
	return false;
}

bool
obx_log_has_events(void)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		result = has_events(snapshot);

	UnregisterSnapshot(snapshot);
	return result;
}

bool
obx_log_is_empty(void)
{
	SnapshotData dirty;

	InitDirtySnapshot(dirty);
	return obx_segment_find_last(NULL) == NULL && !has_events(&dirty);
}
