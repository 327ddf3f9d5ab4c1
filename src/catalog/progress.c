/*
 * Rows of outbox.progress: how far a lane has come.
 *
 * Every batch writes one.  An updated row would leave a dead version each
 * time, and while an old snapshot is held, finding the live one would cost
 * more with each; so versions are inserted, and the newest is found at the
 * near end of an index, whatever lies behind it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "catalog/progress.h"

/* Columns of outbox.progress. */
enum
{
	SUBSCRIPTION,
	LANE,
	VERSION,
	POSITION,
	EVENT_ID,
	DELIVERED,
	FAILED,
	TIME,
	RECEIPT,
	RECEIVER,
	LEASE_UNTIL,
	OWED,
	HANDED,
	RETRIES,
	READ_POSITION,
	READ_EVENT_ID,
	DUE,
	SETTLED,
	COLUMNS
};

/* In the table, an ObxSettled is two numbers. */
#define SETTLED_NUMBERS (sizeof(ObxSettled) / sizeof(int64))

/* Rows that one call of obx_progress_clean() deletes at most. */
#define OBX_CLEAN_BATCH 10000

static int
init_keys(ScanKeyData *keys, int32 subscription, int32 lane)
{
	ScanKeyInit(&keys[0], SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	ScanKeyInit(&keys[1], LANE + 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lane));
	return 2;
}

static void
begin_scan(ObxScan *scan, ScanKey keys, int nkeys, LOCKMODE lockmode, ScanDirection direction)
{
	obx_scan_begin(scan, obx_object_require(OBX_PROGRESS), lockmode,
				   obx_object_require(OBX_PROGRESS_PKEY), NULL, keys, nkeys, direction);
}

/* ---- rows ---- */

static int64 *
get_positions(const Datum *values, const bool *nulls, int column, int *count)
{
	*count = 0;
	return nulls[column] ? NULL : obx_int64_list(values[column], count);
}

static void
set_positions(Datum *values, bool *nulls, int column, const int64 *positions, int count)
{
	nulls[column] = (count == 0);
	values[column] = count == 0 ? (Datum) 0 : obx_int64_array(positions, count);
}

/* What a pull consumer has. */
static void
make_handout(const Datum *values, const bool *nulls, ObxProgress *progress)
{
	progress->receipt = nulls[RECEIPT] ? 0 : DatumGetInt64(values[RECEIPT]);
	progress->receiver = nulls[RECEIVER] ? 0 :
		U64FromFullTransactionId(DatumGetFullTransactionId(values[RECEIVER]));
	progress->lease_until = nulls[LEASE_UNTIL] ? DT_NOBEGIN :
		DatumGetTimestampTz(values[LEASE_UNTIL]);
	progress->owed = get_positions(values, nulls, OWED, &progress->nowed);
	progress->nhanded = nulls[HANDED] ? 0 : DatumGetInt32(values[HANDED]);
	progress->retries = get_positions(values, nulls, RETRIES, &progress->nretries);
	progress->read_position = nulls[READ_POSITION] ? 0 : DatumGetInt64(values[READ_POSITION]);
	progress->read_id = nulls[READ_EVENT_ID] ? 0 : DatumGetInt64(values[READ_EVENT_ID]);
}

static void
fill_handout(const ObxProgress *progress, Datum *values, bool *nulls)
{
	values[RECEIPT] = Int64GetDatum(progress->receipt);
	nulls[RECEIPT] = progress->receipt == 0;
	values[RECEIVER] = FullTransactionIdGetDatum(FullTransactionIdFromU64(progress->receiver));
	nulls[RECEIVER] = progress->receipt == 0;
	values[LEASE_UNTIL] = TimestampTzGetDatum(progress->lease_until);
	nulls[LEASE_UNTIL] = progress->receipt == 0 || progress->lease_until == DT_NOBEGIN;
	set_positions(values, nulls, OWED, progress->owed, progress->nowed);
	values[HANDED] = Int32GetDatum(progress->nhanded);
	nulls[HANDED] = progress->nhanded == 0;
	set_positions(values, nulls, RETRIES, progress->retries, progress->nretries);
	values[READ_POSITION] = Int64GetDatum(progress->read_position);
	values[READ_EVENT_ID] = Int64GetDatum(progress->read_id);
	nulls[READ_POSITION] = nulls[READ_EVENT_ID] = progress->nowed == 0;
}

static void
make_progress(HeapTuple tuple, TupleDesc tupdesc, ObxProgress *progress)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	progress->subscription = DatumGetInt32(values[SUBSCRIPTION]);
	progress->lane = DatumGetInt32(values[LANE]);
	progress->version = DatumGetInt64(values[VERSION]);
	progress->position = DatumGetInt64(values[POSITION]);
	progress->event_id = DatumGetInt64(values[EVENT_ID]);
	progress->delivered = DatumGetInt64(values[DELIVERED]);
	progress->failed = DatumGetInt64(values[FAILED]);
	progress->nsettled = 0;
	progress->settled = NULL;
	make_handout(values, nulls, progress);
	progress->due = nulls[DUE] ? 0 : DatumGetTimestampTz(values[DUE]);
}

/* ---- finding ---- */

bool
obx_progress_find(int32 subscription, int32 lane, ObxProgress *progress)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;

	begin_scan(&scan, keys, init_keys(keys, subscription, lane), AccessShareLock,
			   BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		make_progress(tuple, RelationGetDescr(scan.table), progress);
	obx_scan_end(&scan);
	return tuple != NULL;
}

int64
obx_progress_version(int32 subscription, int32 lane, Snapshot snapshot)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;
	bool		isnull;
	int64		version = 0;

	obx_scan_begin(&scan, obx_object_require(OBX_PROGRESS), AccessShareLock,
				   obx_object_require(OBX_PROGRESS_PKEY), snapshot, keys,
				   init_keys(keys, subscription, lane), BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		version = DatumGetInt64(heap_getattr(tuple, VERSION + 1,
											 RelationGetDescr(scan.table), &isnull));
	obx_scan_end(&scan);
	return version;
}

ObxPassage *
obx_progress_history(int32 subscription, int32 lane, int *count)
{
	ObxPassage *passages = palloc(OBX_PROGRESS_HISTORY * sizeof(ObxPassage));
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;

	*count = 0;
	begin_scan(&scan, keys, init_keys(keys, subscription, lane), AccessShareLock,
			   BackwardScanDirection);
	while (*count < OBX_PROGRESS_HISTORY && (tuple = obx_scan_next(&scan)) != NULL)
	{
		ObxPassage *passage = &passages[(*count)++];
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		passage->position = DatumGetInt64(values[POSITION]);
		passage->delivered = DatumGetInt64(values[DELIVERED]);
		passage->time = DatumGetTimestampTz(values[TIME]);
		passage->settled = (ObxSettled *) get_positions(values, nulls, SETTLED,
														&passage->nsettled);
		passage->nsettled /= SETTLED_NUMBERS;
	}
	obx_scan_end(&scan);
	return passages;
}

/* Skips from lane to lane: a scan each, whatever versions lie between. */
List *
obx_progress_list(void)
{
	List	   *list = NIL;
	int32		subscription = 0;

	for (;;)
	{
		ScanKeyData key;
		ObxScan		scan;
		HeapTuple	tuple;
		ObxProgress *progress;

		ScanKeyInit(&key, SUBSCRIPTION + 1, BTGreaterStrategyNumber, F_INT4GT,
					Int32GetDatum(subscription));
		begin_scan(&scan, &key, 1, AccessShareLock, ForwardScanDirection);
		tuple = obx_scan_next(&scan);
		if (tuple == NULL)
		{
			obx_scan_end(&scan);
			return list;
		}
		progress = palloc(sizeof(ObxProgress));
		make_progress(tuple, RelationGetDescr(scan.table), progress);
		obx_scan_end(&scan);

		subscription = progress->subscription;
		for (int lane = 0; obx_progress_find(subscription, lane, progress); lane++)
		{
			list = lappend(list, progress);
			progress = palloc(sizeof(ObxProgress));
		}
	}
}

/* ---- changing ---- */

void
obx_progress_advance(ObxProgress *progress)
{
	Relation	table = table_open(obx_object_require(OBX_PROGRESS), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	progress->version++;
	values[SUBSCRIPTION] = Int32GetDatum(progress->subscription);
	values[LANE] = Int32GetDatum(progress->lane);
	values[VERSION] = Int64GetDatum(progress->version);
	values[POSITION] = Int64GetDatum(progress->position);
	values[EVENT_ID] = Int64GetDatum(progress->event_id);
	values[DELIVERED] = Int64GetDatum(progress->delivered);
	values[FAILED] = Int64GetDatum(progress->failed);
	values[TIME] = TimestampTzGetDatum(GetCurrentTimestamp());
	fill_handout(progress, values, nulls);
	values[DUE] = TimestampTzGetDatum(progress->due);
	nulls[DUE] = (progress->due == 0);
	set_positions(values, nulls, SETTLED, (const int64 *) progress->settled,
				  progress->nsettled * SETTLED_NUMBERS);
	heap_freetuple(obx_table_insert(table, values, nulls));
	table_close(table, NoLock);
	progress->nsettled = 0;
}

void
obx_progress_settle(ObxProgress *progress, int64 position, int64 attempts)
{
	/* by powers of two */
	if ((progress->nsettled & (progress->nsettled - 1)) == 0)
	{
		Size		size = 2 * Max(progress->nsettled, 1) * sizeof(ObxSettled);

		progress->settled = progress->settled == NULL ? palloc(size) :
			repalloc(progress->settled, size);
	}
	progress->settled[progress->nsettled].position = position;
	progress->settled[progress->nsettled++].attempts = attempts;
}

/* Two that delete rows must not meet at one.  Until the transaction ends. */
static bool
lock_deletion(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId,
					   obx_object_require(OBX_PROGRESS), 1);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

bool
obx_progress_delete(int32 subscription, int32 first_lane)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;

	if (!lock_deletion())
		return false;
	ScanKeyInit(&keys[0], SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	ScanKeyInit(&keys[1], LANE + 1, BTGreaterEqualStrategyNumber, F_INT4GE,
				Int32GetDatum(first_lane));
	begin_scan(&scan, keys, 2, RowExclusiveLock, ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
		obx_table_delete(scan.table, tuple);
	obx_scan_end(&scan);
	return true;
}

/*
 * Walks the index backwards: the first row of a lane that it meets is the
 * newest version, the others are superseded.  One that every snapshot sees as
 * superseded, that is, whose successor is older than the oldest snapshot, can
 * go and leaves nothing that a vacuum could not take at once.
 */
int64
obx_progress_clean(void)
{
	ObxScan		scan;
	HeapTuple	tuple;
	TransactionId horizon;
	int64		deleted = 0;
	int32		subscription = 0;
	int32		lane = -1;
	int64		newest = 0;
	bool		successor_is_old = false;
	static TransactionId fruitless = InvalidTransactionId;

	if (!lock_deletion())
		return 0;
	begin_scan(&scan, NULL, 0, RowExclusiveLock, BackwardScanDirection);
	horizon = obx_oldest_xmin(scan.table);
	if (horizon == fruitless)
	{
		obx_scan_end(&scan);
		return 0;
	}
	while (deleted < OBX_CLEAN_BATCH && (tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];
		TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);
		bool		is_newest;

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		is_newest = DatumGetInt32(values[SUBSCRIPTION]) != subscription ||
			DatumGetInt32(values[LANE]) != lane;
		subscription = DatumGetInt32(values[SUBSCRIPTION]);
		lane = DatumGetInt32(values[LANE]);

		if (is_newest)
			newest = DatumGetInt64(values[VERSION]);
		if (successor_is_old && DatumGetInt64(values[VERSION]) < newest - OBX_PROGRESS_HISTORY)
		{
			obx_table_delete(scan.table, tuple);
			deleted++;
		}
		successor_is_old = !TransactionIdIsNormal(xmin) ||
			TransactionIdPrecedes(xmin, horizon);
	}
	obx_scan_end(&scan);
	fruitless = deleted == 0 ? horizon : InvalidTransactionId;
	return deleted;
}
