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
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/locks.h"
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
	OWED_VERSION,
	OWED_COUNT,
	OWED_GONE,
	HANDED,
	RETRIES,
	RETRIES_VERSION,
	RETRIES_COUNT,
	RETRIES_GONE,
	READ_POSITION,
	READ_EVENT_ID,
	HOLDER,
	HOLDER_PID,
	CAREFUL,
	CAREFUL_LEFT,
	DUE,
	SETTLED,
	COLUMNS
};

/* In the table, an ObxSettled is two numbers. */
#define SETTLED_NUMBERS (sizeof(ObxSettled) / sizeof(int64))

/* Lists so short, in numbers as they are stored, are written with each version. */
#define SHORT_LIST 16

/*
 * After so many versions a list is written again: long before the version that
 * has it may be deleted.
 */
#define LIST_KEPT (OBX_PROGRESS_HISTORY / 2)

/* What one call of obx_progress_clean() deletes, and looks at, at most. */
#define OBX_CLEAN_ROWS	2000
#define OBX_CLEAN_LANES	200

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

/* A list's columns: itself, or the version that has it, the count, and which ones are gone. */
static void
make_positions(const Datum *values, const bool *nulls, int column, int64 version,
			   ObxPositions *positions)
{
	positions->count = nulls[column + 2] ? 0 : DatumGetInt32(values[column + 2]);
	positions->list = NULL;
	positions->version = positions->count == 0 ? 0 :
		nulls[column + 1] ? version : DatumGetInt64(values[column + 1]);
	positions->gone = get_positions(values, nulls, column + 3, &positions->ngone);
}

/* Writes the list itself if it is new, or short; false if it has been written. */
static bool
fill_whole(const ObxPositions *positions, Datum *values, bool *nulls, int column)
{
	bool		is_new = positions->version == 0;
	int			room = is_new ? positions->count + 1 : SHORT_LIST;
	int64	   *numbers;
	int			count;

	if (positions->list == NULL)
		return false;
	numbers = palloc(Max(room, 2) * sizeof(int64));
	count = obx_positions_encode(positions, numbers, Max(room, 2));
	if (count >= 0)
		set_positions(values, nulls, column, numbers, count);
	pfree(numbers);
	return count >= 0;
}

/* "version" is the one that is written. */
static void
fill_positions(ObxPositions *positions, int64 version, Datum *values, bool *nulls, int column)
{
	nulls[column] = nulls[column + 1] = nulls[column + 2] = nulls[column + 3] = true;
	if (positions->count == 0)
		return;
	values[column + 2] = Int32GetDatum(positions->count);
	nulls[column + 2] = false;
	if (fill_whole(positions, values, nulls, column))
	{
		positions->version = version;
		positions->ngone = 0;
		return;
	}
	values[column + 1] = Int64GetDatum(positions->version);
	nulls[column + 1] = false;
	set_positions(values, nulls, column + 3, positions->gone, positions->ngone);
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
	make_positions(values, nulls, OWED, progress->version, &progress->owed);
	progress->nhanded = nulls[HANDED] ? 0 : DatumGetInt32(values[HANDED]);
	make_positions(values, nulls, RETRIES, progress->version, &progress->retries);
	progress->read_position = nulls[READ_POSITION] ? 0 : DatumGetInt64(values[READ_POSITION]);
	progress->read_id = nulls[READ_EVENT_ID] ? 0 : DatumGetInt64(values[READ_EVENT_ID]);
	progress->holder = nulls[HOLDER] ? NULL : TextDatumGetCString(values[HOLDER]);
	progress->holder_pid = nulls[HOLDER_PID] ? 0 : DatumGetInt32(values[HOLDER_PID]);
	progress->careful = nulls[CAREFUL] ? 0 : DatumGetInt32(values[CAREFUL]);
	progress->careful_left = nulls[CAREFUL_LEFT] ? 0 : DatumGetInt32(values[CAREFUL_LEFT]);
}

static void
fill_handout(ObxProgress *progress, Datum *values, bool *nulls)
{
	values[RECEIPT] = Int64GetDatum(progress->receipt);
	nulls[RECEIPT] = progress->receipt == 0;
	values[RECEIVER] = FullTransactionIdGetDatum(FullTransactionIdFromU64(progress->receiver));
	nulls[RECEIVER] = progress->receiver == 0;
	values[LEASE_UNTIL] = TimestampTzGetDatum(progress->lease_until);
	nulls[LEASE_UNTIL] = progress->receipt == 0 || progress->lease_until == DT_NOBEGIN;
	fill_positions(&progress->owed, progress->version, values, nulls, OWED);
	values[HANDED] = Int32GetDatum(progress->nhanded);
	nulls[HANDED] = progress->nhanded == 0;
	fill_positions(&progress->retries, progress->version, values, nulls, RETRIES);
	values[READ_POSITION] = Int64GetDatum(progress->read_position);
	values[READ_EVENT_ID] = Int64GetDatum(progress->read_id);
	nulls[READ_POSITION] = nulls[READ_EVENT_ID] = progress->owed.count == 0;
	nulls[HOLDER] = nulls[HOLDER_PID] = progress->receipt == 0 || progress->holder == NULL;
	if (!nulls[HOLDER])
		values[HOLDER] = CStringGetTextDatum(progress->holder);
	values[HOLDER_PID] = Int32GetDatum(progress->holder_pid);
	values[CAREFUL] = Int32GetDatum(progress->careful);
	values[CAREFUL_LEFT] = Int32GetDatum(progress->careful_left);
	nulls[CAREFUL] = nulls[CAREFUL_LEFT] = progress->careful == 0;
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
	progress->noted_at = DatumGetTimestampTz(values[TIME]);
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

/* The list of that version: its last positions are left, except those that are gone. */
static void
load_positions(const ObxProgress *progress, int column, ObxPositions *positions)
{
	ScanKeyData keys[3];
	int			nkeys = init_keys(keys, progress->subscription, progress->lane);
	ObxScan		scan;
	HeapTuple	tuple;
	int			count = 0;

	if (positions->count == 0 || positions->list != NULL)
		return;
	ScanKeyInit(&keys[nkeys++], VERSION + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(positions->version));
	begin_scan(&scan, keys, nkeys, AccessShareLock, ForwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
	{
		bool		isnull;
		Datum		list = heap_getattr(tuple, column + 1, RelationGetDescr(scan.table), &isnull);
		int			nnumbers;

		if (!isnull)
		{
			int64	   *numbers = obx_int64_list(list, &nnumbers);

			positions->list = obx_positions_decode(numbers, nnumbers, &count);
		}
	}
	obx_scan_end(&scan);
	if (count < positions->count + positions->ngone)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("positions of lane %d of subscription %d are missing", progress->lane,
						progress->subscription),
				 errdetail("Version " INT64_FORMAT " of its progress should have at least %d.",
						   positions->version, positions->count + positions->ngone)));
	positions->list += count - positions->count - positions->ngone;
	if (positions->ngone > 0)
		obx_positions_skip_gone(positions);
}

void
obx_progress_load(ObxProgress *progress)
{
	load_positions(progress, OWED, &progress->owed);
	load_positions(progress, RETRIES, &progress->retries);
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

bool
obx_progress_next(int32 *subscription, int32 *last_lane)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&key, SUBSCRIPTION + 1, BTGreaterStrategyNumber, F_INT4GT,
				Int32GetDatum(*subscription));
	begin_scan(&scan, &key, 1, AccessShareLock, ForwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		*subscription = DatumGetInt32(heap_getattr(tuple, SUBSCRIPTION + 1,
												   RelationGetDescr(scan.table), &isnull));
	obx_scan_end(&scan);
	if (tuple == NULL)
		return false;

	ScanKeyInit(&key, SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(*subscription));
	begin_scan(&scan, &key, 1, AccessShareLock, BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	*last_lane = tuple == NULL ? -1 :
		DatumGetInt32(heap_getattr(tuple, LANE + 1, RelationGetDescr(scan.table), &isnull));
	obx_scan_end(&scan);
	return true;
}

/* ---- changing ---- */

/* A list that a version of long ago has must be written with this one. */
static void
keep_positions(ObxProgress *progress, ObxPositions *positions)
{
	if (positions->version == 0 || positions->version > progress->version - LIST_KEPT)
		return;
	obx_progress_load(progress);
	positions->version = 0;
	positions->ngone = 0;
}

void
obx_progress_advance(ObxProgress *progress)
{
	Relation	table = table_open(obx_object_require(OBX_PROGRESS), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	/* a lease that has ended because the clock was ahead does not begin anew */
	if (obx_clock_was_ahead(progress->noted_at, 0) && progress->lease_until != DT_NOBEGIN)
		progress->lease_until = Min(progress->lease_until, GetCurrentTimestamp());
	progress->noted_at = GetCurrentTimestamp();
	progress->version++;
	keep_positions(progress, &progress->owed);
	keep_positions(progress, &progress->retries);
	values[SUBSCRIPTION] = Int32GetDatum(progress->subscription);
	values[LANE] = Int32GetDatum(progress->lane);
	values[VERSION] = Int64GetDatum(progress->version);
	values[POSITION] = Int64GetDatum(progress->position);
	values[EVENT_ID] = Int64GetDatum(progress->event_id);
	values[DELIVERED] = Int64GetDatum(progress->delivered);
	values[FAILED] = Int64GetDatum(progress->failed);
	values[TIME] = TimestampTzGetDatum(progress->noted_at);
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
obx_progress_record_outcome(ObxProgress *progress, int64 position, int64 attempts)
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
	return obx_lock_acquire(obx_lock_deletion(OBX_PROGRESS), ExclusiveLock, false);
}

/*
 * The last lanes first, so that those that are left have no gap: who looks
 * for them stops at one.
 */
int
obx_progress_delete_some(int32 subscription, int32 first_lane, int32 *last_lane, int limit)
{
	ScanKeyData keys[3];
	ObxScan		scan;
	HeapTuple	tuple;
	int			deleted = 0;

	if (!lock_deletion())
		return -1;
	ScanKeyInit(&keys[0], SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	ScanKeyInit(&keys[1], LANE + 1, BTGreaterEqualStrategyNumber, F_INT4GE,
				Int32GetDatum(first_lane));
	ScanKeyInit(&keys[2], LANE + 1, BTLessEqualStrategyNumber, F_INT4LE,
				Int32GetDatum(*last_lane));
	begin_scan(&scan, keys, 3, RowExclusiveLock, BackwardScanDirection);
	while (deleted < limit && (tuple = obx_scan_next(&scan)) != NULL)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		*last_lane = DatumGetInt32(heap_getattr(tuple, LANE + 1, RelationGetDescr(scan.table),
												&isnull));
		obx_table_delete(scan.table, tuple);
		deleted++;
	}
	obx_scan_end(&scan);
	return deleted;
}

/* ---- superseded versions ---- */

static bool
is_old(HeapTuple tuple, TransactionId horizon)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	return !TransactionIdIsNormal(xmin) || TransactionIdPrecedes(xmin, horizon);
}

/*
 * Deletes versions of a lane below one, from the oldest on.  One that every
 * snapshot sees as superseded, that is, whose successor is older than the
 * oldest snapshot, can go and leaves nothing that a vacuum could not take at
 * once; and if it cannot, neither can those behind it.
 */
static int
clean_lane(int32 subscription, int32 lane, int64 below, TransactionId horizon, int limit)
{
	ScanKeyData keys[3];
	ObxScan		scan;
	HeapTuple	tuple;
	HeapTupleData former;		/* the one before; no data */
	bool		has_former = false;
	int			deleted = 0;

	(void) init_keys(keys, subscription, lane);
	ScanKeyInit(&keys[2], VERSION + 1, BTLessEqualStrategyNumber, F_INT8LE,
				Int64GetDatum(below));
	begin_scan(&scan, keys, 3, RowExclusiveLock, ForwardScanDirection);
	while (deleted < limit && (tuple = obx_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (has_former)
		{
			if (!is_old(tuple, horizon))
				break;
			obx_table_delete(scan.table, &former);
			deleted++;
		}
		former = *tuple;
		has_former = true;
	}
	obx_scan_end(&scan);
	return deleted;
}

/* The next lane after one, and its newest version; false at the end. */
static bool
find_next_lane(int32 *subscription, int32 *lane, int64 *version)
{
	if (*subscription != 0)
	{
		(*lane)++;
		*version = obx_progress_version(*subscription, *lane, NULL);
		if (*version > 0)
			return true;
	}
	/* lanes have no gap */
	if (!obx_progress_next(subscription, lane))
		return false;
	*lane = 0;
	*version = obx_progress_version(*subscription, 0, NULL);
	return true;
}

static TransactionId
find_horizon(void)
{
	Relation	table = table_open(obx_object_require(OBX_PROGRESS), RowExclusiveLock);
	TransactionId horizon = obx_oldest_xmin(table);

	table_close(table, NoLock);
	return horizon;
}

bool
obx_progress_clean(void)
{
	/*
	 * Where this process stopped, since when it goes round, and whether it
	 * has deleted since.  Hints: what an abort leaves is met by the next
	 * round.
	 */
	static int32 subscription = 0;
	static int32 lane = 0;
	static TransactionId began = InvalidTransactionId;
	static bool fruitful = false;
	static TransactionId fruitless = InvalidTransactionId;
	TransactionId horizon;
	int64		version;
	int			deleted = 0;

	if (!lock_deletion())
		return false;
	horizon = find_horizon();
	if (horizon == fruitless)
		return false;
	if (subscription == 0)
	{
		began = horizon;
		fruitful = false;
	}
	for (int lanes = 0; lanes < OBX_CLEAN_LANES && deleted < OBX_CLEAN_ROWS; lanes++)
	{
		if (!find_next_lane(&subscription, &lane, &version))
		{
			/* from the beginning the next time, if anything can have changed */
			fruitless = fruitful ? InvalidTransactionId : began;
			subscription = 0;
			return false;
		}
		deleted += clean_lane(subscription, lane, version - OBX_PROGRESS_HISTORY, horizon,
							  OBX_CLEAN_ROWS - deleted);
		fruitful = fruitful || deleted > 0;
	}
	/* the lane where the budget ended may have more */
	if (deleted >= OBX_CLEAN_ROWS)
		lane--;
	return true;
}
