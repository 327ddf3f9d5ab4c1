/*
 * Rows of outbox.segment.
 *
 * A segment says which transactions take its positions, in order, and how
 * many events each has.  That makes it a fact of its own: whoever reads later
 * needs no snapshot arithmetic, and gets the same order from every server.
 * The list is stored as varints, the xid as the distance to the one before,
 * which makes two to four bytes a transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "log/segment.h"

/* Columns of outbox.segment. */
enum
{
	FIRST_POSITION,
	EVENTS,
	TIME,
	SNAPSHOT,
	MIN_ID,
	MAX_ID,
	MIN_TIME,
	MAX_TIME,
	TRANSACTIONS,
	COLUMNS
};

/* ---- the list of transactions ---- */

static uint8 *
put_varint(uint8 *out, uint64 value)
{
	while (value >= 0x80)
	{
		*out++ = (uint8) (value | 0x80);
		value >>= 7;
	}
	*out++ = (uint8) value;
	return out;
}

static const uint8 *
get_varint(const uint8 *in, const uint8 *end, uint64 *value)
{
	uint64		result = 0;

	for (int shift = 0; shift < 64 && in < end; shift += 7)
	{
		uint8		byte = *in++;

		result |= (uint64) (byte & 0x7F) << shift;
		if ((byte & 0x80) == 0)
		{
			*value = result;
			return in;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("list of transactions in outbox.segment is damaged")));
	return NULL;				/* keep the compiler quiet */
}

static bytea *
encode_transactions(const ObxSegment *segment)
{
	/* two varints of at most ten bytes each */
	bytea	   *list = palloc(VARHDRSZ + 20 * (Size) segment->ntransactions);
	uint8	   *out = (uint8 *) VARDATA(list);
	uint64		previous = 0;

	for (int i = 0; i < segment->ntransactions; i++)
	{
		int64		distance = (int64) (segment->transactions[i].xid - previous);

		/* zigzag: small distances of either sign are small numbers */
		out = put_varint(out, ((uint64) distance << 1) ^ (uint64) (distance >> 63));
		out = put_varint(out, (uint64) segment->transactions[i].events);
		previous = segment->transactions[i].xid;
	}
	SET_VARSIZE(list, out - (uint8 *) list);
	return list;
}

static void
decode_transactions(ObxSegment *segment, Datum datum)
{
	bytea	   *list = DatumGetByteaPP(datum);
	const uint8 *in = (const uint8 *) VARDATA_ANY(list);
	const uint8 *end = in + VARSIZE_ANY_EXHDR(list);
	uint64		xid = 0;

	segment->ntransactions = 0;
	segment->transactions = palloc(Max(VARSIZE_ANY_EXHDR(list) / 2, 1) *
								   sizeof(ObxSegmentTransaction));
	while (in < end)
	{
		uint64		zigzag;
		uint64		events;

		in = get_varint(in, end, &zigzag);
		in = get_varint(in, end, &events);
		xid += (zigzag >> 1) ^ (~(zigzag & 1) + 1);
		segment->transactions[segment->ntransactions].xid = xid;
		segment->transactions[segment->ntransactions].events = (int64) events;
		segment->ntransactions++;
	}
}

/* ---- rows ---- */

static ObxSegment *
make_segment(HeapTuple tuple, TupleDesc tupdesc)
{
	ObxSegment *segment = palloc0(sizeof(ObxSegment));
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	segment->first_position = DatumGetInt64(values[FIRST_POSITION]);
	segment->events = DatumGetInt64(values[EVENTS]);
	segment->time = DatumGetTimestampTz(values[TIME]);
	segment->snapshot = obx_snapshot_from_datum(values[SNAPSHOT]);
	if (!nulls[MIN_ID])
	{
		segment->min_id = DatumGetInt64(values[MIN_ID]);
		segment->max_id = DatumGetInt64(values[MAX_ID]);
		segment->min_time = DatumGetTimestampTz(values[MIN_TIME]);
		segment->max_time = DatumGetTimestampTz(values[MAX_TIME]);
	}
	decode_transactions(segment, values[TRANSACTIONS]);
	return segment;
}

bool
obx_segment_lock(bool wait)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, obx_object_require(OBX_SEGMENT), 1, 0);
	if (LockAcquire(&tag, ExclusiveLock, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;

	/*
	 * who writes after reading takes the stronger lock first: REINDEX is
	 * between
	 */
	LockRelationOid(obx_object_require(OBX_SEGMENT), RowExclusiveLock);
	return true;
}

void
obx_segment_insert(const ObxSegment *segment)
{
	Relation	table = table_open(obx_object_require(OBX_SEGMENT), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	values[FIRST_POSITION] = Int64GetDatum(segment->first_position);
	values[EVENTS] = Int64GetDatum(segment->events);
	values[TIME] = TimestampTzGetDatum(segment->time);
	values[SNAPSHOT] = obx_snapshot_to_datum(segment->snapshot);
	values[MIN_ID] = Int64GetDatum(segment->min_id);
	values[MAX_ID] = Int64GetDatum(segment->max_id);
	values[MIN_TIME] = TimestampTzGetDatum(segment->min_time);
	values[MAX_TIME] = TimestampTzGetDatum(segment->max_time);
	values[TRANSACTIONS] = PointerGetDatum(encode_transactions(segment));
	nulls[MIN_ID] = nulls[MAX_ID] = nulls[MIN_TIME] = nulls[MAX_TIME] = segment->events == 0;

	obx_table_insert(table, values, nulls);
	table_close(table, NoLock);
}

static void
begin_scan(ObxScan *scan, ScanKey keys, int nkeys, Snapshot snapshot, ScanDirection direction)
{
	obx_scan_begin(scan, obx_object_require(OBX_SEGMENT), AccessShareLock,
				   obx_object_require(OBX_SEGMENT_PKEY), snapshot, keys, nkeys, direction);
}

/* The first segment in scan order, NULL if there is none. */
static ObxSegment *
find_first(ScanKey keys, int nkeys, Snapshot snapshot, ScanDirection direction)
{
	ObxScan		scan;
	HeapTuple	tuple;
	ObxSegment *segment = NULL;

	begin_scan(&scan, keys, nkeys, snapshot, direction);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		segment = make_segment(tuple, RelationGetDescr(scan.table));
	obx_scan_end(&scan);
	return segment;
}

static void
init_position_key(ScanKey key, StrategyNumber strategy, int64 position)
{
	RegProcedure procedure = strategy == BTLessEqualStrategyNumber ? F_INT8LE : F_INT8GT;

	ScanKeyInit(key, FIRST_POSITION + 1, strategy, procedure, Int64GetDatum(position));
}

ObxSegment *
obx_segment_find_last(Snapshot snapshot)
{
	return find_first(NULL, 0, snapshot, BackwardScanDirection);
}

ObxSegment *
obx_segment_find_at(int64 position, Snapshot snapshot)
{
	ScanKeyData key;
	ObxSegment *segment;

	init_position_key(&key, BTLessEqualStrategyNumber, position);
	segment = find_first(&key, 1, snapshot, BackwardScanDirection);
	if (segment != NULL && obx_segment_last_position(segment) >= position)
		return segment;

	init_position_key(&key, BTGreaterStrategyNumber, position);
	segment = find_first(&key, 1, snapshot, ForwardScanDirection);
	return segment != NULL && segment->events > 0 ? segment : NULL;
}

/* The first one that passes the test, from a position on. */
static ObxSegment *
find_matching(int64 from, Snapshot snapshot,
			  bool (*matches) (const Datum *values, const bool *nulls, int64 arg), int64 arg)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	ObxSegment *segment = NULL;

	init_position_key(&key, BTGreaterStrategyNumber, from - 1);
	begin_scan(&scan, &key, 1, snapshot, ForwardScanDirection);
	while (segment == NULL && (tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		if (matches(values, nulls, arg))
			segment = make_segment(tuple, RelationGetDescr(scan.table));
	}
	obx_scan_end(&scan);
	return segment;
}

static bool
is_made_since(const Datum *values, const bool *nulls, int64 time)
{
	return !nulls[MIN_ID] && DatumGetTimestampTz(values[TIME]) >= time;
}

static bool
may_hold_id(const Datum *values, const bool *nulls, int64 event_id)
{
	return !nulls[MIN_ID] && DatumGetInt64(values[MIN_ID]) <= event_id &&
		DatumGetInt64(values[MAX_ID]) >= event_id;
}

static bool
holds_events(const Datum *values, const bool *nulls, int64 arg)
{
	return !nulls[MIN_ID];
}

ObxSegment *
obx_segment_find_since(TimestampTz time, Snapshot snapshot)
{
	return find_matching(1, snapshot, is_made_since, time);
}

ObxSegment *
obx_segment_find_id(int64 event_id, int64 from, Snapshot snapshot)
{
	return find_matching(from, snapshot, may_hold_id, event_id);
}

bool
obx_segment_lists(const ObxSegment *segment, uint64 xid, int64 *first_position, int64 *events)
{
	int64		position = segment->first_position;

	for (int i = 0; i < segment->ntransactions; i++)
	{
		if (segment->transactions[i].xid == xid)
		{
			*first_position = position;
			*events = segment->transactions[i].events;
			return true;
		}
		position += segment->transactions[i].events;
	}
	return false;
}

/*
 * The first segment in whose snapshot the transaction has ended: bisection,
 * for what has ended in one has ended in all that follow.
 */
static ObxSegment *
find_ended(uint64 xid, Snapshot snapshot)
{
	ObxSegment *found = NULL;
	int64		low = obx_segment_oldest(snapshot);
	int64		high = low > 0 ? obx_segment_head(snapshot) : 0;

	while (low <= high)
	{
		ObxSegment *segment = obx_segment_find_at(low + (high - low) / 2, snapshot);

		if (segment == NULL)
			break;
		if (obx_snapshot_has_ended(segment->snapshot, xid))
		{
			found = segment;
			high = segment->first_position - 1;
		}
		else
			low = obx_segment_last_position(segment) + 1;
	}
	return found;
}

ObxSegment *
obx_segment_find_xid(uint64 xid, Snapshot snapshot)
{
	ObxSegment *segment = find_ended(xid, snapshot);
	uint64		xmax = segment != NULL ? segment->snapshot->xmax : 0;
	int64		first_position;
	int64		events;

	/* a large difference took several segments, all with its snapshot */
	while (segment != NULL && segment->snapshot->xmax == xmax)
	{
		if (obx_segment_lists(segment, xid, &first_position, &events))
			return segment;
		segment = obx_segment_find_at(obx_segment_last_position(segment) + 1, snapshot);
	}
	return NULL;
}

int64
obx_segment_head(Snapshot snapshot)
{
	ObxSegment *segment = obx_segment_find_last(snapshot);

	return segment != NULL ? obx_segment_last_position(segment) : 0;
}

int64
obx_segment_oldest(Snapshot snapshot)
{
	ObxSegment *segment = find_matching(1, snapshot, holds_events, 0);

	return segment != NULL ? segment->first_position : 0;
}

void
obx_segment_delete_before(int64 position)
{
	ObxScan		scan;
	HeapTuple	tuple;

	obx_scan_begin(&scan, obx_object_require(OBX_SEGMENT), RowExclusiveLock,
				   obx_object_require(OBX_SEGMENT_PKEY), NULL, NULL, 0,
				   ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		if (DatumGetInt64(values[FIRST_POSITION]) +
			Max(DatumGetInt64(values[EVENTS]), 1) > position)
			break;
		obx_table_delete(scan.table, tuple);
	}
	obx_scan_end(&scan);
}
