/*
 * Reading events in position order.
 *
 * A segment lists its transactions; the events of one lie in the index on
 * (xid, id) of one partition or, if it ran over a boundary, of several.  So a
 * reader holds a scan per partition in which the segment has events, sets
 * them all to the next transaction, and merges them by id.  Nothing is held
 * but one event per partition: a transaction of any size is streamed.
 *
 * Must not know who reads, nor where positions come from.
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
#include "log/bookmark.h"
#include "log/partition.h"
#include "log/read.h"
#include "log/scan.h"
#include "log/segment.h"

struct ObxReader
{
	Snapshot	snapshot;
	bool		keep_locks;		/* until the transaction ends */
	MemoryContext memory;		/* lives as long as the reader */
	MemoryContext segment_memory;
	ObxSegment *segment;
	int			transaction;	/* index of the one being read */
	int64		left;			/* events of it not yet returned */
	int64		position;		/* of the event last returned */
	int64		resume_after;	/* position asked for */
	int64		resume_id;
	int64		last_position;	/* of the event last returned, 0 for none */
	int64		last_id;
	uint64		last_xid;
	ObxPartitionScan *last;		/* where the event last returned came from */
	int			nscans;
	ObxPartitionScan *scans;
};

/* ---- partitions ---- */

static bool
is_empty(Oid relid)
{
	Relation	table = table_open(relid, AccessShareLock);
	bool		empty = RelationGetNumberOfBlocks(table) == 0;

	table_close(table, AccessShareLock);
	return empty;
}

/* Opens a scan of a partition, or takes over the one that the reader has. */
static bool
open_scan(ObxReader *reader, Oid relid, ObxPartitionScan *scan)
{
	for (int i = 0; i < reader->nscans; i++)
		if (reader->scans[i].relid == relid)
		{
			*scan = reader->scans[i];
			reader->scans[i].relid = InvalidOid;
			return true;
		}
	return obx_partition_scan_open(scan, relid, reader->snapshot);
}

/*
 * Opens scans of the partitions in which the segment may have events.  The
 * next segment is mostly in the same ones.  The default partition is mostly
 * empty, and then costs a look at its size.
 */
static void
open_scans(ObxReader *reader)
{
	Oid			default_partition = obx_object_require(OBX_EVENT_DEFAULT);
	int			count;
	const ObxPartition *partitions = obx_partitions_between(reader->segment->min_time,
															reader->segment->max_time, &count);
	ObxPartitionScan *scans = palloc0((count + 1) * sizeof(ObxPartitionScan));
	int			nscans = 0;

	for (int i = 0; i < count; i++)
		if (open_scan(reader, partitions[i].relid, &scans[nscans]))
			nscans++;
	if (!is_empty(default_partition) && open_scan(reader, default_partition, &scans[nscans]))
		nscans++;

	for (int i = 0; i < reader->nscans; i++)
		if (OidIsValid(reader->scans[i].relid))
			obx_partition_scan_close(&reader->scans[i], reader->keep_locks);
	if (reader->scans != NULL)
		pfree(reader->scans);
	reader->scans = scans;
	reader->nscans = nscans;
	reader->last = NULL;
}

/* ---- segments and transactions ---- */

/* Sets all scans to the current transaction, after an id, or 0 for its beginning. */
static void
begin_transaction(ObxReader *reader, int64 after_id)
{
	uint64		xid = reader->segment->transactions[reader->transaction].xid;

	for (int i = 0; i < reader->nscans; i++)
	{
		if (after_id == 0)
			obx_partition_scan_walk(&reader->scans[i], xid);
		else
			obx_partition_scan_set(&reader->scans[i], xid, after_id);
		obx_partition_scan_next(&reader->scans[i]);
	}
	reader->last = NULL;
}

/* Goes to the next segment that holds positions after "after"; false at the end. */
static bool
begin_segment(ObxReader *reader, int64 after)
{
	MemoryContext old;

	MemoryContextReset(reader->segment_memory);
	old = MemoryContextSwitchTo(reader->segment_memory);
	reader->segment = obx_segment_find_at(after + 1, reader->snapshot);
	MemoryContextSwitchTo(reader->memory);
	if (reader->segment != NULL)
		open_scans(reader);
	MemoryContextSwitchTo(old);

	if (reader->segment == NULL)
		return false;
	reader->position = reader->segment->first_position - 1;
	reader->transaction = -1;
	reader->left = 0;
	return true;
}

/* The scan that holds the current transaction's next event, NULL if none does. */
static ObxPartitionScan *
next_scan(ObxReader *reader)
{
	ObxPartitionScan *next = NULL;

	if (reader->last != NULL)
		obx_partition_scan_next(reader->last);
	for (int i = 0; i < reader->nscans; i++)
		if (reader->scans[i].has_event &&
			(next == NULL || reader->scans[i].id < next->id))
			next = &reader->scans[i];
	reader->last = next;
	return next;
}

/*
 * An event of the segment is not there.  Retention drops partitions, which no
 * snapshot outlasts, together with all segments that reach into them: if this
 * one is not there any more either, reading goes on behind it.
 */
static void
skip_dropped(ObxReader *reader)
{
	MemoryContext old = MemoryContextSwitchTo(reader->segment_memory);
	const ObxSegment *segment = reader->segment;
	const ObxSegment *found = obx_segment_find_at(segment->first_position, NULL);

	MemoryContextSwitchTo(old);
	if (found == NULL || found->first_position != segment->first_position)
	{
		reader->position = obx_segment_last_position(segment);
		reader->transaction = segment->ntransactions - 1;
		reader->left = 0;
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("event at position " INT64_FORMAT " is missing from the log",
					reader->position + 1),
			 errdetail("Transaction " UINT64_FORMAT " has fewer events than its segment says.",
					   reader->segment->transactions[reader->transaction].xid),
			 errhint("Rows of outbox.event have been removed by other means than retention.")));
}

/* Of transactions with fewer events it costs little to count those before a place. */
#define MANY_EVENTS 1000

/*
 * Sets the position to one from which the current transaction can be read on to
 * "resume_after", as near to it as is known, and returns the id of the event
 * there; 0: from the transaction's first event.
 */
static int64
find_start(ObxReader *reader, int64 skip)
{
	const ObxSegment *segment = reader->segment;
	const ObxSegmentTransaction *transaction = &segment->transactions[reader->transaction];
	ObxBookmark bookmark;

	if (transaction->events < MANY_EVENTS)
		return 0;
	/* nobody else drew ids meanwhile: each one is an event */
	if (segment->ntransactions == 1 && segment->max_id - segment->min_id + 1 == transaction->events)
	{
		reader->position = reader->resume_after;
		return segment->min_id + skip - 1;
	}
	if (!obx_bookmark_find(transaction->xid, reader->resume_after, &bookmark))
		return 0;
	reader->position = bookmark.position;
	return bookmark.id;
}

/*
 * Goes to the transaction and the place in it from which "resume_after" says
 * to go on, within the segment just begun.
 */
static void
resume(ObxReader *reader)
{
	int64		skip = reader->resume_after - reader->position;

	while (skip > 0)
	{
		int64		events = reader->segment->transactions[reader->transaction + 1].events;

		if (events > skip)
		{
			int64		after_id = reader->resume_id;

			reader->transaction++;
			reader->left = events - skip;
			if (after_id == 0)
				after_id = find_start(reader, skip);
			begin_transaction(reader, after_id);
			/* without the id, the events before have to be counted */
			while (reader->resume_id == 0 && reader->position < reader->resume_after)
			{
				CHECK_FOR_INTERRUPTS();
				if (next_scan(reader) == NULL)
				{
					skip_dropped(reader);
					return;
				}
				reader->position++;
			}
			reader->position = reader->resume_after;
			return;
		}
		reader->transaction++;
		reader->position += events;
		skip -= events;
	}
	reader->left = 0;
}

static ObxReader *
make_reader(Snapshot snapshot, bool keep_locks)
{
	ObxReader  *reader = palloc0(sizeof(ObxReader));

	reader->snapshot = snapshot;
	reader->keep_locks = keep_locks;
	reader->memory = CurrentMemoryContext;
	reader->segment_memory = AllocSetContextCreate(CurrentMemoryContext,
												   "pg_outbox segment",
												   ALLOCSET_DEFAULT_SIZES);
	return reader;
}

ObxReader *
obx_reader_begin(Snapshot snapshot, int64 after, int64 after_id, bool keep_locks)
{
	ObxReader  *reader = make_reader(snapshot, keep_locks);

	reader->resume_after = after;
	reader->resume_id = after_id;
	if (begin_segment(reader, after) && reader->position < after)
		resume(reader);
	return reader;
}

/* Goes to the next transaction that has events left to be read; false at the end. */
static bool
require_transaction(ObxReader *reader)
{
	while (reader->left == 0)
	{
		if (reader->transaction + 1 == reader->segment->ntransactions)
		{
			if (!begin_segment(reader, reader->position))
				return false;
			continue;
		}
		reader->transaction++;
		reader->left = reader->segment->transactions[reader->transaction].events;
		begin_transaction(reader, 0);
	}
	return true;
}

bool
obx_reader_next(ObxReader *reader, ObxReadEvent *event)
{
	ObxPartitionScan *scan = NULL;

	if (reader->segment == NULL)
		return false;

	while (scan == NULL)
	{
		if (!require_transaction(reader))
			return false;
		scan = next_scan(reader);
		if (scan == NULL)
			skip_dropped(reader);
	}
	reader->left--;
	reader->position++;

	event->position = reader->position;
	event->id = scan->id;
	event->xid = reader->segment->transactions[reader->transaction].xid;
	event->positioned_at = reader->segment->time;
	event->slot = scan->slot;
	reader->last_position = event->position;
	reader->last_id = event->id;
	reader->last_xid = event->xid;
	return true;
}

/* Whoever stops in the middle of a large transaction will go on there. */
static void
leave_bookmark(const ObxReader *reader)
{
	ObxBookmark bookmark = {
		.xid = reader->last_xid,
		.position = reader->last_position,
		.id = reader->last_id
	};

	if (reader->last_id != 0 && reader->segment != NULL && reader->left > 0 &&
		reader->segment->transactions[reader->transaction].xid == reader->last_xid &&
		reader->segment->transactions[reader->transaction].events >= MANY_EVENTS)
		obx_bookmark_put(&bookmark, reader->resume_after);
}

void
obx_reader_end(ObxReader *reader)
{
	leave_bookmark(reader);
	for (int i = 0; i < reader->nscans; i++)
		obx_partition_scan_close(&reader->scans[i], reader->keep_locks);
	MemoryContextDelete(reader->segment_memory);
	pfree(reader);
}

/* ---- events by their id ---- */

/* The id of the transaction's last event, 0 if none is kept. */
static int64
last_id(ObxReader *reader, uint64 xid)
{
	int64		last = 0;

	for (int i = 0; i < reader->nscans; i++)
	{
		ObxPartitionScan *scan = &reader->scans[i];
		bool		isnull;

		obx_partition_scan_set(scan, xid, PG_INT64_MIN);
		if (index_getnext_slot(scan->scan, BackwardScanDirection, scan->slot))
			last = Max(last, DatumGetInt64(slot_getattr(scan->slot, OBX_EVENT_ID + 1,
														&isnull)));
	}
	return last;
}

/* The scan that stands at the transaction's event of that id, NULL if none does. */
static ObxPartitionScan *
find_scan(ObxReader *reader, uint64 xid, int64 id)
{
	for (int i = 0; i < reader->nscans; i++)
	{
		obx_partition_scan_set(&reader->scans[i], xid, id - 1);
		obx_partition_scan_next(&reader->scans[i]);
		if (reader->scans[i].has_event && reader->scans[i].id == id)
			return &reader->scans[i];
	}
	return NULL;
}

/*
 * Looks for an id in the reader's segment.  Transactions stand in the order of
 * their last ids: in those before some place it cannot be, and mostly it is
 * right there.
 */
static ObxPartitionScan *
find_in_segment(ObxReader *reader, int64 id)
{
	const ObxSegment *segment = reader->segment;
	int			low = 0;
	int			high = segment->ntransactions;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (last_id(reader, segment->transactions[middle].xid) >= id)
			high = middle;
		else
			low = middle + 1;
	}
	for (; low < segment->ntransactions; low++)
	{
		ObxPartitionScan *scan;

		CHECK_FOR_INTERRUPTS();
		scan = find_scan(reader, segment->transactions[low].xid, id);
		if (scan != NULL)
		{
			reader->transaction = low;
			return scan;
		}
	}
	return NULL;
}

/* Looks for an id in the log; the scan and the reader stand there afterwards. */
static ObxPartitionScan *
find_by_id(ObxReader *reader, int64 id)
{
	ObxIdSearch search;

	obx_segment_search(&search, id, reader->snapshot);
	for (;;)
	{
		MemoryContext old;
		ObxPartitionScan *scan;

		MemoryContextReset(reader->segment_memory);
		old = MemoryContextSwitchTo(reader->segment_memory);
		reader->segment = obx_segment_search_next(&search, reader->snapshot);
		MemoryContextSwitchTo(old);
		if (reader->segment == NULL)
			return NULL;
		open_scans(reader);
		scan = find_in_segment(reader, id);
		if (scan != NULL)
			return scan;
	}
}

bool
obx_event_find_by_id(Snapshot snapshot, int64 id, TupleTableSlot *slot)
{
	ObxReader  *reader = make_reader(snapshot, false);
	ObxPartitionScan *scan = find_by_id(reader, id);

	if (scan != NULL)
		ExecCopySlot(slot, scan->slot);
	obx_reader_end(reader);
	return scan != NULL;
}

/* The position of an event of a transaction whose events begin at "first". */
static int64
find_in_transaction(Snapshot snapshot, uint64 xid, int64 id, int64 first, const ObxPlace *place)
{
	bool		is_behind = place->xid == xid && place->id < id;
	ObxReader  *reader = obx_reader_begin(snapshot, is_behind ? place->position : first - 1,
										  is_behind ? place->id : 0, false);
	ObxReadEvent event;
	int64		position = 0;

	while (obx_reader_next(reader, &event) && event.xid == xid && event.id <= id)
	{
		CHECK_FOR_INTERRUPTS();
		if (event.id == id)
			position = event.position;
	}
	obx_reader_end(reader);
	return position;
}

int64
obx_event_position(Snapshot snapshot, int64 id)
{
	ObxReader  *reader = make_reader(snapshot, false);
	int64		position = 0;

	if (find_by_id(reader, id) != NULL)
	{
		const ObxSegmentTransaction *transaction =
		&reader->segment->transactions[reader->transaction];
		const ObxPlace nowhere = {0};
		int64		events;

		(void) obx_segment_lists(reader->segment, transaction->xid, &position, &events);
		if (events > 1)
			position = find_in_transaction(snapshot, transaction->xid, id, position, &nowhere);
	}
	obx_reader_end(reader);
	return position;
}

static bool
is_in_segment(const ObxPlace *place, uint64 xid, int64 *first, int64 *events)
{
	return place->segment != NULL && obx_segment_lists(place->segment, xid, first, events);
}

int64
obx_event_locate(Snapshot snapshot, uint64 xid, int64 id, ObxPlace *place)
{
	int64		first;
	int64		events;
	int64		position;

	if (!is_in_segment(place, xid, &first, &events))
	{
		MemoryContext old = MemoryContextSwitchTo(place->memory);

		MemoryContextReset(place->memory);
		place->xid = 0;
		place->segment = obx_segment_find_xid(xid, snapshot);
		MemoryContextSwitchTo(old);
		if (!is_in_segment(place, xid, &first, &events))
			return 0;
	}
	if (id < place->segment->min_id || id > place->segment->max_id)
		return 0;

	position = events == 1 ? first : find_in_transaction(snapshot, xid, id, first, place);
	if (position > 0)
	{
		place->xid = xid;
		place->id = id;
		place->position = position;
	}
	return position;
}
