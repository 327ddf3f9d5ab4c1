/*
 * Rows of outbox.tally: how many events a transaction of many has.
 *
 * A row is written by the transaction that it counts, and deleted by the one
 * that gives its events their positions.  Must not know who counts.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "catalog/tally.h"

/* Columns of outbox.tally. */
enum
{
	XID,
	EVENTS,
	MIN_ID,
	MAX_ID,
	MIN_TIME,
	MAX_TIME,
	COLUMNS
};

void
obx_tally_insert(const ObxTally *tally)
{
	Relation	table = table_open(obx_object_require(OBX_TALLY), RowExclusiveLock);
	bool		nulls[COLUMNS] = {false};
	Datum		values[COLUMNS] = {
		[XID] = FullTransactionIdGetDatum(FullTransactionIdFromU64(tally->xid)),
		[EVENTS] = Int64GetDatum(tally->events),
		[MIN_ID] = Int64GetDatum(tally->min_id),
		[MAX_ID] = Int64GetDatum(tally->max_id),
		[MIN_TIME] = TimestampTzGetDatum(tally->min_time),
		[MAX_TIME] = TimestampTzGetDatum(tally->max_time)
	};

	heap_freetuple(obx_table_insert(table, values, nulls));
	table_close(table, NoLock);
}

static ObxTally
make_tally(HeapTuple tuple, TupleDesc tupdesc)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ObxTally	tally;

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	tally.xid = U64FromFullTransactionId(DatumGetFullTransactionId(values[XID]));
	tally.events = DatumGetInt64(values[EVENTS]);
	tally.min_id = DatumGetInt64(values[MIN_ID]);
	tally.max_id = DatumGetInt64(values[MAX_ID]);
	tally.min_time = DatumGetTimestampTz(values[MIN_TIME]);
	tally.max_time = DatumGetTimestampTz(values[MAX_TIME]);
	return tally;
}

void
obx_tally_take(uint64 from, uint64 to, Snapshot snapshot, ObxTallyVisitor visit, void *arg)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], XID + 1, BTGreaterEqualStrategyNumber, F_XID8GE,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(from)));
	ScanKeyInit(&keys[1], XID + 1, BTLessStrategyNumber, F_XID8LT,
				FullTransactionIdGetDatum(FullTransactionIdFromU64(to)));
	obx_scan_begin(&scan, obx_object_require(OBX_TALLY), RowExclusiveLock,
				   obx_object_require(OBX_TALLY_XID_IDX), snapshot, keys, 2,
				   ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		ObxTally	tally = make_tally(tuple, RelationGetDescr(scan.table));

		CHECK_FOR_INTERRUPTS();
		visit(&tally, arg);
		obx_table_delete(scan.table, tuple);
	}
	obx_scan_end(&scan);
}
