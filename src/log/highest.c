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

#include "miscadmin.h"
#include "utils/snapmgr.h"

#include "log/highest.h"
#include "log/partition.h"
#include "log/scan.h"
#include "log/segment.h"

/*
 * The highest id that the partition holds of transactions from "xid" on, with
 * "any" one of them; 0 if there is none.
 */
static int64
find_highest(const ObxPartition *partition, uint64 xid, Snapshot snapshot, bool any)
{
	ObxPartitionScan scan;
	int64		highest = 0;

	if (!obx_partition_scan_open(&scan, partition->relid, snapshot))
		return 0;
	obx_partition_scan_set_range(&scan, xid, PG_UINT64_MAX, ForwardScanDirection);
	while (obx_partition_scan_next(&scan))
	{
		CHECK_FOR_INTERRUPTS();
		highest = Max(highest, scan.id);
		if (any)
			break;
	}
	obx_partition_scan_close(&scan, false);
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
