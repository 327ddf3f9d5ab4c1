/*
 * Rows of outbox.aggregate_window.
 *
 * A batch writes a version of each window that it changed.  As with progress,
 * versions are inserted and the newest is found at the near end of an index,
 * whatever lies behind it.  A complete window leaves a version that is not
 * open: without it, a search would step over all former versions to find that
 * the key has no window.
 *
 * Must not know what is folded, nor when it is complete.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "catalog/window.h"

/* Columns of outbox.aggregate_window. */
enum
{
	SUBSCRIPTION,
	KEY,
	VERSION,
	DUE,
	OPEN,
	EVENTS,
	SINCE,
	LATEST,
	STATE,
	CORRELATION_ID,
	TRACEPARENT,
	LAST_POSITION,
	LAST_EVENT_ID,
	LAST_CAUSATION_ID,
	CAUSES,
	COLUMNS
};

/* What one call of obx_window_clean() looks at, and deletes, at most. */
#define OBX_CLEAN_VISITS	20000
#define OBX_CLEAN_BATCH		10000

/* Versions of a key that are stepped over before looking for the next key. */
#define OBX_CLEAN_STEPS		32

/* ---- rows ---- */

static text *
get_text(const Datum *values, const bool *nulls, int column)
{
	return nulls[column] ? NULL : DatumGetTextPCopy(values[column]);
}

static void
make_window(HeapTuple tuple, TupleDesc tupdesc, ObxWindow *window)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	window->subscription = DatumGetInt32(values[SUBSCRIPTION]);
	window->key = get_text(values, nulls, KEY);
	window->version = DatumGetInt64(values[VERSION]);
	window->due = nulls[DUE] ? DT_NOEND : DatumGetTimestampTz(values[DUE]);
	window->open = DatumGetBool(values[OPEN]);
	window->events = DatumGetInt64(values[EVENTS]);
	window->since = DatumGetTimestampTz(values[SINCE]);
	window->latest = DatumGetTimestampTz(values[LATEST]);
	window->state = nulls[STATE] ? NULL : DatumGetJsonbPCopy(values[STATE]);
	window->correlation_id = get_text(values, nulls, CORRELATION_ID);
	window->traceparent = get_text(values, nulls, TRACEPARENT);
	window->last_position = DatumGetInt64(values[LAST_POSITION]);
	window->last_event_id = DatumGetInt64(values[LAST_EVENT_ID]);
	window->last_causation_id = nulls[LAST_CAUSATION_ID] ? 0 :
		DatumGetInt64(values[LAST_CAUSATION_ID]);
	window->ncauses = 0;
	window->causes = nulls[CAUSES] ? NULL :
		obx_int64_list(values[CAUSES], &window->ncauses);
}

static void
set_pointer(Datum *values, bool *nulls, int column, const void *pointer)
{
	values[column] = PointerGetDatum(pointer);
	nulls[column] = (pointer == NULL);
}

void
obx_window_write(ObxInserter *inserter, const ObxWindow *window)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};
	bool		open = window->open;

	values[SUBSCRIPTION] = Int32GetDatum(window->subscription);
	set_pointer(values, nulls, KEY, window->key);
	values[VERSION] = Int64GetDatum(window->version);
	values[DUE] = TimestampTzGetDatum(window->due);
	nulls[DUE] = !open || window->due == DT_NOEND;
	values[OPEN] = BoolGetDatum(open);
	values[EVENTS] = Int64GetDatum(open ? window->events : 0);
	values[SINCE] = TimestampTzGetDatum(window->since);
	values[LATEST] = TimestampTzGetDatum(window->latest);
	set_pointer(values, nulls, STATE, open ? window->state : NULL);
	set_pointer(values, nulls, CORRELATION_ID, open ? window->correlation_id : NULL);
	set_pointer(values, nulls, TRACEPARENT, open ? window->traceparent : NULL);
	values[LAST_POSITION] = Int64GetDatum(window->last_position);
	values[LAST_EVENT_ID] = Int64GetDatum(window->last_event_id);
	values[LAST_CAUSATION_ID] = Int64GetDatum(window->last_causation_id);
	nulls[LAST_CAUSATION_ID] = !open || window->last_causation_id == 0;
	set_pointer(values, nulls, CAUSES, open && window->ncauses > 0 ?
				DatumGetPointer(obx_int64_array(window->causes, window->ncauses)) : NULL);
	obx_inserter_insert(inserter, values, nulls);
	if (!nulls[CAUSES])
		pfree(DatumGetPointer(values[CAUSES]));
}

/* ---- finding ---- */

/* A caller that finds a window goes on to write it, so the table is locked for that at once. */

static void
init_subscription_key(ScanKey key, StrategyNumber strategy, RegProcedure function,
					  int32 subscription)
{
	ScanKeyInit(key, SUBSCRIPTION + 1, strategy, function, Int32GetDatum(subscription));
}

/* For all strategies; NULL is found as what it is. */
static void
init_window_key(ScanKey key, StrategyNumber strategy, RegProcedure function, text *value)
{
	if (value != NULL)
		ScanKeyInit(key, KEY + 1, strategy, function, PointerGetDatum(value));
	else
		ScanKeyEntryInitialize(key, SK_ISNULL | SK_SEARCHNULL, KEY + 1, InvalidStrategy,
							   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
}

static void
begin_scan(ObxScan *scan, ObxObject index, ScanKey keys, int nkeys, LOCKMODE lockmode,
		   ScanDirection direction)
{
	obx_scan_begin(scan, obx_object_require(OBX_WINDOW), lockmode, obx_object_require(index),
				   NULL, keys, nkeys, direction);
}

static void
begin_scan_of_key(ObxScan *scan, int32 subscription, text *key)
{
	ScanKeyData keys[2];

	init_subscription_key(&keys[0], BTEqualStrategyNumber, F_INT4EQ, subscription);
	init_window_key(&keys[1], BTEqualStrategyNumber, F_TEXTEQ, key);
	begin_scan(scan, OBX_WINDOW_KEY_IDX, keys, 2, RowExclusiveLock, BackwardScanDirection);
}

void
obx_window_find(int32 subscription, text *key, ObxWindow *window)
{
	ObxScan		scan;
	HeapTuple	tuple;

	memset(window, 0, sizeof(ObxWindow));
	window->subscription = subscription;
	window->key = key;
	begin_scan_of_key(&scan, subscription, key);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		make_window(tuple, RelationGetDescr(scan.table), window);
	obx_scan_end(&scan);
}

static int64
newest_version(int32 subscription, text *key)
{
	ObxScan		scan;
	HeapTuple	tuple;
	bool		isnull;
	int64		version = 0;

	begin_scan_of_key(&scan, subscription, key);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		version = DatumGetInt64(heap_getattr(tuple, VERSION + 1,
											 RelationGetDescr(scan.table), &isnull));
	obx_scan_end(&scan);
	return version;
}

void
obx_window_scan_begin(ObxWindowScan *scan, int32 subscription, TimestampTz from)
{
	ScanKeyData keys[2];

	scan->subscription = subscription;
	init_subscription_key(&keys[0], BTEqualStrategyNumber, F_INT4EQ, subscription);
	ScanKeyInit(&keys[1], DUE + 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(from));
	begin_scan(&scan->scan, OBX_WINDOW_DUE_IDX, keys, 2, RowExclusiveLock,
			   ForwardScanDirection);
}

/* Versions that are superseded are stepped over. */
bool
obx_window_scan_next(ObxWindowScan *scan, ObxWindow *window)
{
	TupleDesc	tupdesc = RelationGetDescr(scan->scan.table);
	HeapTuple	tuple;

	while ((tuple = obx_scan_next(&scan->scan)) != NULL)
	{
		bool		isnull;
		Datum		key = heap_getattr(tuple, KEY + 1, tupdesc, &isnull);
		text	   *found = isnull ? NULL : DatumGetTextPP(key);
		int64		version = DatumGetInt64(heap_getattr(tuple, VERSION + 1, tupdesc, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (version != newest_version(scan->subscription, found))
			continue;
		make_window(tuple, tupdesc, window);
		return true;
	}
	return false;
}

void
obx_window_scan_end(ObxWindowScan *scan)
{
	obx_scan_end(&scan->scan);
}

/* ---- deleting ---- */

/* Two that delete rows must not meet at one.  Until the transaction ends. */
static bool
lock_deletion(bool wait)
{
	return obx_lock_acquire(obx_lock_deletion(OBX_WINDOW), ExclusiveLock, wait);
}

void
obx_window_place_reset(ObxWindowPlace *place)
{
	if (place->key != NULL)
		pfree(place->key);
	memset(place, 0, sizeof(ObxWindowPlace));
}

static void
note_place(ObxWindowPlace *place, HeapTuple tuple, TupleDesc tupdesc)
{
	bool		isnull;
	Datum		key = heap_getattr(tuple, KEY + 1, tupdesc, &isnull);

	obx_window_place_reset(place);
	if (!isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		place->key = DatumGetTextPCopy(key);
		MemoryContextSwitchTo(old);
	}
	place->version = DatumGetInt64(heap_getattr(tuple, VERSION + 1, tupdesc, &isnull));
	place->subscription = DatumGetInt32(heap_getattr(tuple, SUBSCRIPTION + 1, tupdesc, &isnull));
	place->is_set = true;
}

/* Is the row of that key?  If not, it is from now on. */
static bool
is_at(ObxWindowPlace *place, HeapTuple tuple, TupleDesc tupdesc)
{
	bool		isnull;
	int32		subscription = DatumGetInt32(heap_getattr(tuple, SUBSCRIPTION + 1, tupdesc,
														  &isnull));
	Datum		datum = heap_getattr(tuple, KEY + 1, tupdesc, &isnull);
	text	   *key = isnull ? NULL : DatumGetTextPP(datum);

	if (place->is_set && place->subscription == subscription &&
		(place->key == NULL) == (key == NULL) &&
		(key == NULL ||
		 (VARSIZE_ANY_EXHDR(place->key) == VARSIZE_ANY_EXHDR(key) &&
		  memcmp(VARDATA_ANY(place->key), VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)) == 0)))
		return true;

	note_place(place, tuple, tupdesc);
	return false;
}

void
obx_window_delete_all(int32 subscription, int64 *open)
{
	ObxWindowPlace place = {0};
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	bool		is_open = false;

	*open = 0;
	(void) lock_deletion(true);
	init_subscription_key(&key, BTEqualStrategyNumber, F_INT4EQ, subscription);
	begin_scan(&scan, OBX_WINDOW_KEY_IDX, &key, 1, RowExclusiveLock, ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (!is_at(&place, tuple, RelationGetDescr(scan.table)) && is_open)
			(*open)++;
		is_open = DatumGetBool(heap_getattr(tuple, OPEN + 1, RelationGetDescr(scan.table),
											&isnull));
		obx_table_delete(scan.table, tuple);
	}
	obx_scan_end(&scan);
	if (is_open)
		(*open)++;
}

/* Deletes rows of a range; if that is all that may be, notes the last one. */
static int
delete_range(ObxWindowPlace *place, ScanKey keys, int nkeys, int limit)
{
	ObxScan		scan;
	HeapTuple	tuple;
	int			deleted = 0;

	begin_scan(&scan, OBX_WINDOW_KEY_IDX, keys, nkeys, RowExclusiveLock, ForwardScanDirection);
	while (deleted < limit && (tuple = obx_scan_next(&scan)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		obx_table_delete(scan.table, tuple);
		if (++deleted == limit)
			note_place(place, tuple, RelationGetDescr(scan.table));
	}
	obx_scan_end(&scan);
	return deleted;
}

int
obx_window_delete_some(int32 subscription, ObxWindowPlace *place, int limit)
{
	ScanKeyData keys[3];
	text	   *key;
	int			deleted;

	if (!lock_deletion(false))
		return -1;
	init_subscription_key(&keys[0], BTEqualStrategyNumber, F_INT4EQ, subscription);
	if (!place->is_set)
		return delete_range(place, keys, 1, limit);

	/* the rest of its key, then the keys behind, of which NULL is the last */
	key = place->key == NULL ? NULL : DatumGetTextPCopy(PointerGetDatum(place->key));
	init_window_key(&keys[1], BTEqualStrategyNumber, F_TEXTEQ, key);
	ScanKeyInit(&keys[2], VERSION + 1, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(place->version));
	deleted = delete_range(place, keys, 3, limit);
	if (key == NULL)
		return deleted;
	init_window_key(&keys[1], BTGreaterStrategyNumber, F_TEXT_GT, key);
	if (deleted < limit)
		deleted += delete_range(place, keys, 2, limit - deleted);
	init_window_key(&keys[1], InvalidStrategy, InvalidOid, NULL);
	if (deleted < limit)
		deleted += delete_range(place, keys, 2, limit - deleted);
	return deleted;
}

/* How the cleaning stands. */
typedef struct Cleaning
{
	TransactionId horizon;
	int			visits;
	int			deleted;
	int			steps;			/* over rows of a key that must stay */
	HeapTupleData former;		/* the row before, of the same key; no data */
	bool		has_former;
	bool		former_is_last_closed;	/* it is closed and old enough to go */
} Cleaning;

/* Every snapshot sees it. */
static bool
is_old(const Cleaning *cleaning, HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	return !TransactionIdIsNormal(xmin) || TransactionIdPrecedes(xmin, cleaning->horizon);
}

/* The key's rows have ended: what says that it has no window need not stand. */
static void
finish_key(Cleaning *cleaning, Relation table)
{
	if (cleaning->has_former && cleaning->former_is_last_closed && cleaning->steps == 0)
	{
		obx_table_delete(table, &cleaning->former);
		cleaning->deleted++;
	}
	cleaning->has_former = false;
	cleaning->steps = 0;
}

typedef enum CleaningEnd
{
	END_OF_RANGE,
	END_OF_BUDGET,
	END_OF_KEY					/* what is left of the key is to be skipped */
} CleaningEnd;

/*
 * Goes through rows by key and rising version.  One whose successor is old is
 * seen by nobody any more; and older ones go first, for one that is not
 * closed must never come to be the newest.
 */
static CleaningEnd
clean_range(Cleaning *cleaning, ObxWindowPlace *place, ScanKey keys, int nkeys)
{
	CleaningEnd end = END_OF_RANGE;
	ObxScan		scan;
	HeapTuple	tuple;

	begin_scan(&scan, OBX_WINDOW_KEY_IDX, keys, nkeys, RowExclusiveLock,
			   ForwardScanDirection);
	cleaning->has_former = false;
	cleaning->steps = 0;
	while (end == END_OF_RANGE && (tuple = obx_scan_next(&scan)) != NULL)
	{
		TupleDesc	tupdesc = RelationGetDescr(scan.table);
		bool		old = is_old(cleaning, tuple);
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		cleaning->visits++;
		if (!is_at(place, tuple, tupdesc))
		{
			finish_key(cleaning, scan.table);
			if (cleaning->visits > OBX_CLEAN_VISITS)
				end = END_OF_BUDGET;
		}
		else if (cleaning->has_former && old)
		{
			obx_table_delete(scan.table, &cleaning->former);
			cleaning->deleted++;
		}
		else if (++cleaning->steps > OBX_CLEAN_STEPS)
			end = END_OF_KEY;
		if (cleaning->deleted >= OBX_CLEAN_BATCH)
			end = END_OF_BUDGET;

		cleaning->former = *tuple;
		cleaning->has_former = true;
		cleaning->former_is_last_closed = old &&
			!DatumGetBool(heap_getattr(tuple, OPEN + 1, tupdesc, &isnull));
	}
	if (end == END_OF_RANGE)
		finish_key(cleaning, scan.table);
	obx_scan_end(&scan);
	return end;
}

/* From the place on, through the rows of its key or only those behind. */
static CleaningEnd
clean_from(Cleaning *cleaning, ObxWindowPlace *place, bool behind)
{
	ScanKeyData keys[2];
	CleaningEnd end;
	int32		subscription = place->subscription;
	text	   *key = place->key;

	place->is_set = false;		/* a row of this key is looked at as a first */
	if (key != NULL)
	{
		init_subscription_key(&keys[0], BTEqualStrategyNumber, F_INT4EQ, subscription);
		key = DatumGetTextPCopy(PointerGetDatum(key));
		init_window_key(&keys[1], behind ? BTGreaterStrategyNumber : BTGreaterEqualStrategyNumber,
						behind ? F_TEXT_GT : F_TEXT_GE, key);
		end = clean_range(cleaning, place, keys, 2);
		if (end != END_OF_RANGE)
			return end;
		behind = false;
	}
	/* NULL comes last */
	if (!behind)
	{
		init_subscription_key(&keys[0], BTEqualStrategyNumber, F_INT4EQ, subscription);
		init_window_key(&keys[1], InvalidStrategy, InvalidOid, NULL);
		end = clean_range(cleaning, place, keys, 2);
		if (end == END_OF_BUDGET)
			return end;
	}
	init_subscription_key(&keys[0], BTGreaterStrategyNumber, F_INT4GT, subscription);
	return clean_range(cleaning, place, keys, 1);
}

bool
obx_window_clean(void)
{
	/* where this process stopped, and whether it has deleted since the begin */
	static ObxWindowPlace place;
	static bool fruitful = false;
	static TransactionId fruitless = InvalidTransactionId;
	Cleaning	cleaning = {0};
	CleaningEnd end;
	ObxScan		scan;

	if (!lock_deletion(false))
		return false;
	begin_scan(&scan, OBX_WINDOW_KEY_IDX, NULL, 0, RowExclusiveLock, ForwardScanDirection);
	cleaning.horizon = obx_oldest_xmin(scan.table);
	obx_scan_end(&scan);
	if (cleaning.horizon == fruitless)
		return false;

	end = clean_from(&cleaning, &place, false);
	while (end == END_OF_KEY)
		end = clean_from(&cleaning, &place, true);
	fruitful = fruitful || cleaning.deleted > 0;
	if (end == END_OF_BUDGET)
		return true;

	/* the end: from the beginning the next time, if anything can have changed */
	fruitless = fruitful ? InvalidTransactionId : cleaning.horizon;
	fruitful = false;
	obx_window_place_reset(&place);
	return false;
}
