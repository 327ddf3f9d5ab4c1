/*
 * Rows of outbox.schedule: events that are not due yet.
 *
 * A row is inserted once and deleted once.  A scan goes on from a place, so
 * that taking rows from the front does not visit the index entries of deleted
 * rows again and again: while the xmin horizon is held back, these entries
 * stay.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/sequence.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "catalog/schedule.h"
#include "catalog/sequence.h"

/* The id that this process drew last. */
static int64 last_drawn = 0;

/* One above all that are in use, should the sequence have been set back. */
static int64
draw_id(void)
{
	Oid			sequence = obx_object_require(OBX_SCHEDULE_ID_SEQ);
	int64		id = nextval_internal(sequence, false);

	if (id <= last_drawn || last_drawn == 0)
	{
		int64		highest = obx_schedule_highest_id();

		if (id <= highest)
		{
			obx_sequence_raise(OBX_SCHEDULE_ID_SEQ, highest);
			id = nextval_internal(sequence, false);
		}
	}
	last_drawn = id;
	return id;
}

int64
obx_schedule_insert(Datum *values, bool *nulls)
{
	Relation	table = table_open(obx_object_require(OBX_SCHEDULE), RowExclusiveLock);
	int64		id = draw_id();

	values[OBX_SCHEDULE_ID] = Int64GetDatum(id);
	nulls[OBX_SCHEDULE_ID] = false;
	heap_freetuple(obx_table_insert(table, values, nulls));
	table_close(table, NoLock);
	return id;
}

/* ---- in the order of their time ---- */

/* Those of the place's time behind it, and then those of later times. */
static void
open_scan(ObxScheduleScan *scan)
{
	ScanKeyData keys[2];
	int			nkeys = 1;

	if (scan->same_time)
	{
		ScanKeyInit(&keys[0], OBX_SCHEDULE_DELIVER_AT + 1, BTEqualStrategyNumber,
					F_TIMESTAMPTZ_EQ, TimestampTzGetDatum(scan->place.deliver_at));
		ScanKeyInit(&keys[1], OBX_SCHEDULE_ID + 1, BTGreaterStrategyNumber, F_INT8GT,
					Int64GetDatum(scan->place.id));
		nkeys = 2;
	}
	else
		ScanKeyInit(&keys[0], OBX_SCHEDULE_DELIVER_AT + 1, BTGreaterStrategyNumber,
					F_TIMESTAMPTZ_GT, TimestampTzGetDatum(scan->place.deliver_at));
	obx_scan_begin(&scan->scan, obx_object_require(OBX_SCHEDULE), RowExclusiveLock,
				   obx_object_require(OBX_SCHEDULE_DUE_IDX), NULL, keys, nkeys,
				   ForwardScanDirection);
	scan->is_open = true;
}

void
obx_schedule_scan_begin(ObxScheduleScan *scan, ObxSchedulePlace place)
{
	scan->place = place;
	scan->same_time = place.deliver_at > DT_NOBEGIN;
	open_scan(scan);
}

bool
obx_schedule_scan_next(ObxScheduleScan *scan, Datum *values, bool *nulls, ItemPointer tid)
{
	HeapTuple	tuple = obx_scan_next(&scan->scan);

	if (tuple == NULL && scan->same_time)
	{
		obx_schedule_scan_end(scan);
		scan->same_time = false;
		open_scan(scan);
		tuple = obx_scan_next(&scan->scan);
	}
	if (tuple == NULL)
		return false;
	heap_deform_tuple(tuple, RelationGetDescr(scan->scan.table), values, nulls);
	*tid = tuple->t_self;
	return true;
}

void
obx_schedule_scan_end(ObxScheduleScan *scan)
{
	if (scan->is_open)
		obx_scan_end(&scan->scan);
	scan->is_open = false;
}

/* ---- single rows ---- */

ObxScheduleDeletion
obx_schedule_delete(ItemPointer tid, bool wait)
{
	Relation	table = table_open(obx_object_require(OBX_SCHEDULE), RowExclusiveLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TM_FailureData failure;
	TM_Result	result = obx_table_tuple_delete(table, tid, snapshot, wait, &failure);

	UnregisterSnapshot(snapshot);
	table_close(table, NoLock);
	switch (result)
	{
		case TM_Ok:
			return OBX_SCHEDULE_DELETED;
		case TM_BeingModified:
			return OBX_SCHEDULE_BUSY;
		case TM_Deleted:
		case TM_Updated:
		case TM_SelfModified:
			return OBX_SCHEDULE_GONE;
		default:
			elog(ERROR, "could not delete from outbox.schedule: result %d", (int) result);
	}
	return OBX_SCHEDULE_GONE;	/* keep the compiler quiet */
}

bool
obx_schedule_fetch(int64 id, Datum *values, bool *nulls, ItemPointer tid)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, OBX_SCHEDULE_ID + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	obx_scan_begin(&scan, obx_object_require(OBX_SCHEDULE), RowExclusiveLock,
				   obx_object_require(OBX_SCHEDULE_PKEY), NULL, &key, 1, ForwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
	{
		*tid = tuple->t_self;
		if (values != NULL)
			heap_deform_tuple(heap_copytuple(tuple), RelationGetDescr(scan.table), values, nulls);
	}
	obx_scan_end(&scan);
	return tuple != NULL;
}

bool
obx_schedule_find(int64 id, ItemPointer tid)
{
	return obx_schedule_fetch(id, NULL, NULL, tid);
}

/*
 * With rows of open transactions, to tell "not there" from "perhaps there".
 * One that is being deleted enters the log, or is cancelled; which of them, and
 * whether at all, that transaction's end tells.
 */
void
obx_schedule_find_key(Datum key, ObxScheduleUse *use)
{
	SnapshotData dirty;
	ScanKeyData scan_key;
	ObxScan		scan;
	HeapTuple	tuple;

	memset(use, 0, sizeof(ObxScheduleUse));
	InitDirtySnapshot(dirty);
	ScanKeyInit(&scan_key, OBX_SCHEDULE_IDEMPOTENCY_KEY + 1, BTEqualStrategyNumber, F_TEXTEQ, key);
	obx_scan_begin(&scan, obx_object_require(OBX_SCHEDULE), AccessShareLock,
				   obx_object_require(OBX_SCHEDULE_KEY_IDX), &dirty, &scan_key, 1,
				   ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		bool		isnull;

		if (TransactionIdIsValid(dirty.xmin))
			use->writer = dirty.xmin;
		else if (TransactionIdIsValid(dirty.xmax))
			use->writer = dirty.xmax;
		else
		{
			use->id = DatumGetInt64(heap_getattr(tuple, OBX_SCHEDULE_ID + 1,
												 RelationGetDescr(scan.table), &isnull));
			use->in_snapshot = obx_tuple_is_in_snapshot(tuple);
		}
	}
	obx_scan_end(&scan);
}

int64
obx_schedule_last_id(void)
{
	return obx_sequence_last(OBX_SCHEDULE_ID_SEQ);
}

int64
obx_schedule_highest_id(void)
{
	ObxScan		scan;
	HeapTuple	tuple;
	bool		isnull;
	int64		id = 0;

	obx_scan_begin(&scan, obx_object_require(OBX_SCHEDULE), AccessShareLock,
				   obx_object_require(OBX_SCHEDULE_PKEY), NULL, NULL, 0, BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		id = DatumGetInt64(heap_getattr(tuple, OBX_SCHEDULE_ID + 1,
										RelationGetDescr(scan.table), &isnull));
	obx_scan_end(&scan);
	return id;
}
