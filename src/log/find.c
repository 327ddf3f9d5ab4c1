/*
 * Finding events without reading in position order: one by its transaction and
 * id, and the newest ones.
 *
 * An event lies in the partition of its time, which only the log knows.  Its
 * position says which partitions can have it; the one that had the last event
 * is looked at first.
 *
 * Must not know why an event is looked for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/partition.h"
#include "log/event.h"
#include "log/find.h"
#include "log/scan.h"
#include "log/segment.h"

/* ---- by transaction and id ---- */

TupleTableSlot *
obx_event_make_slot(void)
{
	Relation	table = table_open(obx_object_require(OBX_EVENT_DEFAULT), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);

	table_close(table, AccessShareLock);
	return slot;
}

/* Finds the event in one partition. */
static bool
find_in_partition(Oid relid, Snapshot snapshot, uint64 xid, int64 id, TupleTableSlot *slot)
{
	ObxPartitionScan scan;
	bool		found;

	if (!obx_partition_scan_open(&scan, relid, snapshot))
		return false;
	obx_partition_scan_set(&scan, xid, id - 1);
	found = obx_partition_scan_next(&scan) && scan.id == id;
	if (found)
		ExecCopySlot(slot, scan.slot);
	obx_partition_scan_close(&scan, false);
	return found;
}

/*
 * The time of the last event found, 0 for none: the next one is mostly in the
 * same partition.  Only a hint.
 */
static TimestampTz found_time = 0;

/* In some consecutive partitions, but for one. */
static bool
find_among(const ObxPartition *partitions, int count, Oid but, Snapshot snapshot, uint64 xid,
		   int64 id, TupleTableSlot *slot)
{
	for (int i = 0; i < count; i++)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (partitions[i].relid == but ||
			!find_in_partition(partitions[i].relid, snapshot, xid, id, slot))
			continue;
		found_time = DatumGetTimestampTz(slot_getattr(slot, OBX_EVENT_TIME + 1, &isnull));
		return true;
	}
	return false;
}

bool
obx_event_find(Snapshot snapshot, uint64 xid, int64 id, int64 position, TupleTableSlot *slot)
{
	const ObxPartition *partitions;
	Oid			looked_in = InvalidOid;
	TimestampTz first;
	TimestampTz last;
	int			count;

	if (found_time != 0)
	{
		partitions = obx_partitions_between(found_time, found_time, &count);
		if (find_among(partitions, count, InvalidOid, snapshot, xid, id, slot))
			return true;
		looked_in = count > 0 ? partitions[0].relid : InvalidOid;
	}
	if (position == 0)
	{
		partitions = obx_partition_array(&count);
		return find_among(partitions, count, looked_in, snapshot, xid, id, slot);
	}

	/* a position that no segment has is not kept */
	if (!obx_segment_span(position, snapshot, &first, &last))
		return false;
	partitions = obx_partitions_between(first, last, &count);
	return find_among(partitions, count, looked_in, snapshot, xid, id, slot) ||
		find_in_partition(obx_object_require(OBX_EVENT_DEFAULT), snapshot, xid, id, slot);
}

/* ---- events from the end ---- */

typedef struct BackwardScan
{
	ObxPartitionScan scan;
	uint64		xid;			/* of the event it stands at */
} BackwardScan;

static void
step_back(BackwardScan *back)
{
	if (obx_partition_scan_next(&back->scan))
		back->xid = obx_event_xid(back->scan.slot);
}

/* The one at the newest event, NULL at the end of all. */
static BackwardScan *
find_newest(BackwardScan *scans, int nscans)
{
	BackwardScan *newest = NULL;

	for (int i = 0; i < nscans; i++)
		if (scans[i].scan.has_event &&
			(newest == NULL || scans[i].xid > newest->xid ||
			 (scans[i].xid == newest->xid && scans[i].scan.id > newest->scan.id)))
			newest = &scans[i];
	return newest;
}

void
obx_event_visit_newest(Snapshot snapshot, int64 limit, ObxEventVisitor visit, void *arg)
{
	int			count;
	const ObxPartition *partitions = obx_partition_array(&count);
	BackwardScan *scans = palloc(count * sizeof(BackwardScan));
	BackwardScan *newest;
	int			nscans = 0;

	for (int i = 0; i < count; i++)
	{
		BackwardScan *back = &scans[nscans];

		if (!obx_partition_scan_open(&back->scan, partitions[i].relid, snapshot))
			continue;
		nscans++;
		obx_partition_scan_set_range(&back->scan, 0, PG_UINT64_MAX, BackwardScanDirection);
		step_back(back);
	}
	while (limit-- > 0 && (newest = find_newest(scans, nscans)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (!visit(newest->scan.slot, arg))
			break;
		step_back(newest);
	}
	for (int i = 0; i < nscans; i++)
		obx_partition_scan_close(&scans[i].scan, false);
}
