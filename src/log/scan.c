/*
 * A scan of one partition, by its index on (xid, id).
 *
 * Must not know which partitions there are, nor in which order events come.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "log/event.h"
#include "log/partition.h"
#include "log/scan.h"

bool
obx_partition_scan_open(ObxPartitionScan *scan, Oid relid, Snapshot snapshot, int nkeys)
{
	scan->relid = relid;
	scan->table = try_relation_open(relid, AccessShareLock);
	if (scan->table == NULL)
		return false;
	scan->index = index_open(obx_partition_index(scan->table), AccessShareLock);
	scan->scan = obx_index_beginscan(scan->table, scan->index, snapshot, nkeys);
	scan->slot = table_slot_create(scan->table, NULL);
	scan->has_event = false;
	return true;
}

void
obx_partition_scan_close(ObxPartitionScan *scan, bool keep_lock)
{
	index_endscan(scan->scan);
	ExecDropSingleTupleTableSlot(scan->slot);
	index_close(scan->index, keep_lock ? NoLock : AccessShareLock);
	table_close(scan->table, keep_lock ? NoLock : AccessShareLock);
}

void
obx_partition_scan_set(ObxPartitionScan *scan, uint64 xid, int64 after_id)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_XID8EQ,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after_id));
	index_rescan(scan->scan, keys, 2, NULL, 0);
}

void
obx_partition_scan_next(ObxPartitionScan *scan)
{
	bool		isnull;

	scan->has_event = index_getnext_slot(scan->scan, ForwardScanDirection, scan->slot);
	if (scan->has_event)
		scan->id = DatumGetInt64(slot_getattr(scan->slot, OBX_EVENT_ID + 1, &isnull));
}
