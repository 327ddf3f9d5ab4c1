/*
 * A scan of one partition, by its index on (xid, id).
 *
 * Must not know the list of partitions, nor the order of events.
 */
#include "postgres.h"

#include "access/itup.h"
#include "access/relation.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "log/event.h"
#include "log/partition.h"
#include "log/scan.h"

/*
 * A walk steps over so many entries at most to the transaction that is asked
 * for: they are of transactions that had their turn, have not ended, or are
 * aborted, and those can have any number.
 */
#define LONGEST_STEP 16

/* After the n-th miss in a row, 2^n transactions are looked up by themselves. */
#define MOST_MISSES 6

static void
end_walk(ObxPartitionScan *scan)
{
	scan->passed_xid = PG_UINT64_MAX;
	scan->has_entry = false;
}

bool
obx_partition_scan_open(ObxPartitionScan *scan, Oid relid, Snapshot snapshot)
{
	scan->relid = relid;
	scan->table = try_relation_open(relid, AccessShareLock);
	if (scan->table == NULL)
		return false;
	scan->index = index_open(obx_partition_index(scan->table), AccessShareLock);
	scan->scan = obx_index_beginscan(scan->table, scan->index, snapshot, 2);
	scan->direction = ForwardScanDirection;
	scan->slot = table_slot_create(scan->table, NULL);
	scan->has_event = false;
	scan->memory = CurrentMemoryContext;
	scan->walk = NULL;
	scan->is_walking = false;
	scan->misses = 0;
	scan->pause = 0;
	end_walk(scan);
	return true;
}

void
obx_partition_scan_close(ObxPartitionScan *scan, bool keep_lock)
{
	if (scan->walk != NULL)
		index_endscan(scan->walk);
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
	scan->direction = ForwardScanDirection;
	scan->is_walking = false;
}

void
obx_partition_scan_set_range(ObxPartitionScan *scan, uint64 from, uint64 to,
							 ScanDirection direction)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(from)));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_XID8LE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(to)));
	index_rescan(scan->scan, keys, 2, NULL, 0);
	scan->direction = direction;
	scan->is_walking = false;
}

/* ---- walking ---- */

/* Steps to the next entry of the index, whether its event is visible or not. */
static void
step_walk(ObxPartitionScan *scan)
{
	bool		isnull;
	Datum		xid;

	if (scan->has_entry)
		scan->passed_xid = scan->entry_xid;
	scan->has_entry = index_getnext_tid(scan->walk, ForwardScanDirection) != NULL;
	if (!scan->has_entry)
		return;
	xid = index_getattr(scan->walk->xs_itup, 1, scan->walk->xs_itupdesc, &isnull);
	scan->entry_xid = U64FromFullTransactionId(DatumGetFullTransactionId(xid));
}

/*
 * Begins a walk at the transaction, or where it would be; nothing of it or of a
 * later one is passed.
 */
static void
begin_walk(ObxPartitionScan *scan, uint64 xid)
{
	MemoryContext old = MemoryContextSwitchTo(scan->memory);
	ScanKeyData key;

	if (scan->walk == NULL)
	{
		scan->walk = obx_index_beginscan(scan->table, scan->index, scan->scan->xs_snapshot, 1);
		scan->walk->xs_want_itup = true;
	}
	ScanKeyInit(&key, 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)));
	index_rescan(scan->walk, &key, 1, NULL, 0);
	MemoryContextSwitchTo(old);
	scan->passed_xid = xid - 1;
	scan->has_entry = false;
	step_walk(scan);
}

/*
 * Brings the walk to the transaction, or to where it would be: true if none of
 * its events can be elsewhere.  The snapshot stays the same, and what it sees
 * was in the index when the walk began.
 */
static bool
walk_to(ObxPartitionScan *scan, uint64 xid)
{
	for (int i = 0; i < LONGEST_STEP && scan->has_entry && scan->entry_xid < xid; i++)
		step_walk(scan);
	return xid > scan->passed_xid && (!scan->has_entry || scan->entry_xid >= xid);
}

/* Is the way to the transaction too long, or has no walk begun? */
static bool
is_lost(const ObxPartitionScan *scan, uint64 xid)
{
	return scan->passed_xid == PG_UINT64_MAX || (scan->has_entry && scan->entry_xid < xid);
}

void
obx_partition_scan_walk(ObxPartitionScan *scan, uint64 xid)
{
	scan->xid = xid;
	if (scan->pause == 0)
	{
		scan->is_walking = walk_to(scan, xid);
		if (scan->is_walking)
		{
			scan->misses = 0;
			return;
		}

		/* or else it began earlier than those around it: the walk can go on */
		if (is_lost(scan, xid))
		{
			if (scan->misses < MOST_MISSES)
				scan->misses++;
			scan->pause = 1 << scan->misses;
			end_walk(scan);
		}
	}
	else if (--scan->pause == 0)
	{
		begin_walk(scan, xid);
		scan->is_walking = true;
		return;
	}
	obx_partition_scan_set(scan, xid, PG_INT64_MIN);
}

/* Fetches the transaction's next visible event that the walk comes to. */
static bool
walk_next(ObxPartitionScan *scan)
{
	while (scan->has_entry && scan->entry_xid == scan->xid)
	{
		bool		is_visible = index_fetch_heap(scan->walk, scan->slot);

		step_walk(scan);
		if (is_visible)
			return true;
	}
	return false;
}

bool
obx_partition_scan_next(ObxPartitionScan *scan)
{
	bool		isnull;

	scan->has_event = scan->is_walking ? walk_next(scan) :
		index_getnext_slot(scan->scan, scan->direction, scan->slot);
	if (scan->has_event)
		scan->id = DatumGetInt64(slot_getattr(scan->slot, OBX_EVENT_ID + 1, &isnull));
	return scan->has_event;
}
