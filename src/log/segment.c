/*
 * Rows of outbox.segment.
 *
 * A segment lists the transactions that have its positions, in order, and the
 * number of events of each.  So it is independent of snapshots: later readers
 * need no snapshot arithmetic, and get the same order on every server.  The
 * list is stored as varints, each xid as the distance to the one before, which
 * takes two to four bytes per transaction.
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
#include "catalog/locks.h"
#include "catalog/names.h"
#include "log/probe.h"
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
	HIGHEST_ID,
	LATEST_TIME,
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
	segment->snapshot = obx_xid_snapshot_from_datum(values[SNAPSHOT]);
	if (!nulls[MIN_ID])
	{
		segment->min_id = DatumGetInt64(values[MIN_ID]);
		segment->max_id = DatumGetInt64(values[MAX_ID]);
		segment->min_time = DatumGetTimestampTz(values[MIN_TIME]);
		segment->max_time = DatumGetTimestampTz(values[MAX_TIME]);
	}
	segment->highest_id = DatumGetInt64(values[HIGHEST_ID]);
	segment->latest_time = DatumGetTimestampTz(values[LATEST_TIME]);
	decode_transactions(segment, values[TRANSACTIONS]);
	return segment;
}

bool
obx_segment_lock(bool wait)
{
	if (!obx_lock_acquire(obx_lock_sequencing(), ExclusiveLock, wait))
		return false;

	/*
	 * what is read first is written then: upgrading could deadlock with
	 * REINDEX
	 */
	LockRelationOid(obx_object_require(OBX_SEGMENT), RowExclusiveLock);
	return true;
}

void
obx_segment_unlock(void)
{
	UnlockRelationOid(obx_object_require(OBX_SEGMENT), RowExclusiveLock);
	obx_lock_release(obx_lock_sequencing(), ExclusiveLock);
}

void
obx_segment_wait_for_writer(void)
{
	/*
	 * where it is ours already, nobody else writes one, and this waits for
	 * nobody
	 */
	(void) obx_lock_acquire(obx_lock_sequencing(), ShareLock, true);
	obx_lock_release(obx_lock_sequencing(), ShareLock);
}

void
obx_segment_insert(ObxSegment *segment, const ObxSegment *before)
{
	Relation	table = table_open(obx_object_require(OBX_SEGMENT), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	segment->highest_id = segment->max_id;
	segment->latest_time = segment->time;
	if (before != NULL)
	{
		segment->highest_id = Max(segment->highest_id, before->highest_id);
		segment->latest_time = Max(segment->latest_time, before->latest_time);
	}

	values[FIRST_POSITION] = Int64GetDatum(segment->first_position);
	values[EVENTS] = Int64GetDatum(segment->events);
	values[TIME] = TimestampTzGetDatum(segment->time);
	values[SNAPSHOT] = obx_xid_snapshot_to_datum(segment->snapshot);
	values[MIN_ID] = Int64GetDatum(segment->min_id);
	values[MAX_ID] = Int64GetDatum(segment->max_id);
	values[MIN_TIME] = TimestampTzGetDatum(segment->min_time);
	values[MAX_TIME] = TimestampTzGetDatum(segment->max_time);
	values[HIGHEST_ID] = Int64GetDatum(segment->highest_id);
	values[LATEST_TIME] = TimestampTzGetDatum(segment->latest_time);
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

/* ---- searching by halves ---- */

/* Must never be false of a segment after one of which it is true. */
typedef bool (*Reached) (const Datum *values, const void *arg);

/*
 * Looks at the last segment that begins at or before a position: returns where
 * that is, 0 if there is none, and whether it has reached what is looked for.
 */
static int64
look_at(ObxProbe *probe, int64 position, Reached reached, const void *arg, bool *is_reached)
{
	HeapTuple	tuple = obx_probe_at(probe, position);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	*is_reached = false;
	if (tuple == NULL)
		return 0;
	heap_deform_tuple(tuple, RelationGetDescr(probe->table), values, nulls);
	*is_reached = reached(values, arg);
	return DatumGetInt64(values[FIRST_POSITION]);
}

/* The first position of the first segment that has reached it, 0 if none has. */
static int64
bisect(Snapshot snapshot, Reached reached, const void *arg)
{
	ObxProbe	probe;
	bool		is_reached;
	int64		high;
	int64		low = 1;

	obx_probe_begin(&probe, snapshot);
	high = look_at(&probe, PG_INT64_MAX, reached, arg, &is_reached);
	if (!is_reached)
		high = 0;

	/*
	 * the one looked for begins at "low" at the earliest, at "high" at the
	 * latest
	 */
	while (high != 0 && low < high)
	{
		int64		middle = low + (high - low) / 2;
		int64		first_position = look_at(&probe, middle, reached, arg, &is_reached);

		if (is_reached)
			high = first_position;
		else
			low = middle + 1;
	}
	obx_probe_end(&probe);
	return high;
}

static bool
is_kept(const Datum *values, const void *arg)
{
	return true;
}

/* The first position of the oldest segment, 0 if there is none. */
static int64
find_oldest(Snapshot snapshot)
{
	return bisect(snapshot, is_kept, NULL);
}

/* ---- at a position ---- */

/* The last one that begins at or before the position, NULL if there is none. */
static ObxSegment *
find_before(int64 position, Snapshot snapshot)
{
	ObxProbe	probe;
	HeapTuple	tuple;
	ObxSegment *segment = NULL;

	obx_probe_begin(&probe, snapshot);
	tuple = obx_probe_at(&probe, position);
	if (tuple != NULL)
		segment = make_segment(tuple, RelationGetDescr(probe.table));
	obx_probe_end(&probe);
	return segment;
}

ObxSegment *
obx_segment_find_at(int64 position, Snapshot snapshot)
{
	ScanKeyData key;
	ObxSegment *segment = find_before(position, snapshot);

	if (segment != NULL && obx_segment_last_position(segment) >= position)
		return segment;
	if (segment == NULL)
	{
		/* before the oldest: not by a scan, see probe.c */
		int64		oldest = find_oldest(snapshot);

		segment = oldest > 0 ? find_before(oldest, snapshot) : NULL;
	}
	else
	{
		init_position_key(&key, BTGreaterStrategyNumber, position);
		segment = find_first(&key, 1, snapshot, ForwardScanDirection);
	}
	return segment != NULL && segment->events > 0 ? segment : NULL;
}

bool
obx_segment_span(int64 position, Snapshot snapshot, TimestampTz *first, TimestampTz *last)
{
	ObxProbe	probe;
	HeapTuple	tuple;
	bool		found = false;

	obx_probe_begin(&probe, snapshot);
	tuple = obx_probe_at(&probe, position);
	if (tuple != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		heap_deform_tuple(tuple, RelationGetDescr(probe.table), values, nulls);
		found = DatumGetInt64(values[FIRST_POSITION]) + DatumGetInt64(values[EVENTS]) > position;
		*first = found ? DatumGetTimestampTz(values[MIN_TIME]) : 0;
		*last = found ? DatumGetTimestampTz(values[MAX_TIME]) : 0;
	}
	obx_probe_end(&probe);
	return found;
}

/* ---- what is searched for ---- */

static bool
has_id(const Datum *values, const void *arg)
{
	return DatumGetInt64(values[HIGHEST_ID]) >= *(const int64 *) arg;
}

static bool
has_ended(const Datum *values, const void *arg)
{
	ObxXidSnapshot *snapshot = obx_xid_snapshot_from_datum(values[SNAPSHOT]);
	bool		result = obx_xid_snapshot_has_ended(snapshot, *(const uint64 *) arg);

	obx_xid_snapshot_free(snapshot);
	return result;
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

ObxSegment *
obx_segment_find_xid(uint64 xid, Snapshot snapshot)
{
	int64		position = bisect(snapshot, has_ended, &xid);
	ObxSegment *segment = position > 0 ? obx_segment_find_at(position, snapshot) : NULL;
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

/* ---- searching for an id ---- */

/*
 * Ids are drawn by transactions that have their xid already, and come into the
 * log when those end: in the first segment with an id as high, or later.  How
 * much later is bounded.  That segment was made after the id was drawn; so the
 * transaction that made it took its own xid after the one looked for had
 * taken his, and had ended when the next snapshot was taken, whose xmax is
 * above both.  Once everything below has ended, nothing can come any more.
 */
void
obx_segment_search(ObxIdSearch *search, int64 event_id, Snapshot snapshot)
{
	memset(search, 0, sizeof(ObxIdSearch));
	search->id = event_id;
	search->next_position = bisect(snapshot, has_id, &event_id);
}

/* Can the event be in the segment, or behind it?  Keeps account of how far to look. */
static bool
is_within(ObxIdSearch *search, const Datum *values)
{
	ObxXidSnapshot *snapshot = obx_xid_snapshot_from_datum(values[SNAPSHOT]);
	uint64		xmin = snapshot->xmin;
	uint64		xmax = snapshot->xmax;

	obx_xid_snapshot_free(snapshot);
	if (search->last_xmax != 0)
		return xmax == search->last_xmax;
	if (search->first_xmax == 0)
		search->first_xmax = xmax;
	else if (search->bound == 0 && xmax != search->first_xmax)
		search->bound = xmax;
	if (search->bound != 0 && xmin >= search->bound)
		search->last_xmax = xmax;
	return true;
}

ObxSegment *
obx_segment_search_next(ObxIdSearch *search, Snapshot snapshot)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	ObxSegment *segment = NULL;

	if (search->next_position == 0)
		return NULL;
	init_position_key(&key, BTGreaterStrategyNumber, search->next_position - 1);
	search->next_position = 0;
	begin_scan(&scan, &key, 1, snapshot, ForwardScanDirection);
	while (segment == NULL && (tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		if (!is_within(search, values))
			break;
		if (!nulls[MIN_ID] && DatumGetInt64(values[MIN_ID]) <= search->id &&
			DatumGetInt64(values[MAX_ID]) >= search->id)
			segment = make_segment(tuple, RelationGetDescr(scan.table));
	}
	obx_scan_end(&scan);
	if (segment != NULL)
		search->next_position = segment->first_position + 1;
	return segment;
}

/* ---- the ends ---- */

int64
obx_segment_head(Snapshot snapshot)
{
	ObxSegment *segment = obx_segment_find_last(snapshot);

	return segment != NULL ? obx_segment_last_position(segment) : 0;
}

int64
obx_segment_oldest(Snapshot snapshot)
{
	ObxSegment *segment = obx_segment_find_at(1, snapshot);

	return segment != NULL ? segment->first_position : 0;
}

int64
obx_segment_delete(int64 from, int64 before, int64 limit)
{
	ObxScan		scan;
	HeapTuple	tuple;
	ScanKeyData key;
	int64		deleted = 0;
	int64		next = before;

	/*
	 * not from the start: what others' snapshots keep there would be passed
	 * each time
	 */
	init_position_key(&key, BTGreaterStrategyNumber, from - 1);
	obx_scan_begin(&scan, obx_object_require(OBX_SEGMENT), RowExclusiveLock,
				   obx_object_require(OBX_SEGMENT_PKEY), NULL, &key, 1,
				   ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		CHECK_FOR_INTERRUPTS();
		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		if (DatumGetInt64(values[FIRST_POSITION]) +
			Max(DatumGetInt64(values[EVENTS]), 1) > before)
			break;
		if (deleted == limit)
		{
			next = DatumGetInt64(values[FIRST_POSITION]);
			break;
		}
		obx_table_delete(scan.table, tuple);
		deleted++;
	}
	obx_scan_end(&scan);
	return next;
}
