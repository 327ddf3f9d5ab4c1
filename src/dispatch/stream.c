/*
 * The log as dispatchers read it.
 *
 * Subscriptions mostly stand near each other.  The last stretch of the log
 * that this process has read is kept in memory, so that the next subscription
 * that wants it finds it there: the log is read and decoded once, and matched
 * against many.  That is safe because an event and its position never change;
 * a snapshot that is newer than the one it was read with sees it too.
 *
 * Must not know who reads, nor what matches.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "dispatch/stream.h"

/* The stretch kept: so many events, and about so many bytes. */
#define OBX_STREAM_EVENTS	4096
#define OBX_STREAM_BYTES	(4 * 1024 * 1024)

/* An event larger than this is not worth keeping. */
#define OBX_STREAM_LARGE	(64 * 1024)

typedef struct KeptEvent
{
	int64		id;
	uint64		xid;
	TimestampTz positioned_at;
	HeapTuple	tuple;
} KeptEvent;

/* Consecutive positions, from "first" on; lives as long as the process. */
static struct
{
	MemoryContext memory;		/* of the tuples */
	Oid			log;			/* OID of outbox.event: another one is another
								 * log */
	int64		first;
	int			count;
	Size		bytes;
	KeptEvent	events[OBX_STREAM_EVENTS];
}			kept;

/* The stream being read. */
static struct
{
	int64		position;		/* of the event last returned */
	int64		id;
	ObxReader  *reader;			/* NULL while the kept stretch serves */
	TupleTableSlot *slot;		/* shows kept events */
}			stream;

static void
forget_stretch(int64 first)
{
	MemoryContextReset(kept.memory);
	kept.first = first;
	kept.count = 0;
	kept.bytes = 0;
}

/* Keeps an event that continues the stretch, or begins a new one with it. */
static void
keep_event(const ObxReadEvent *event)
{
	KeptEvent  *entry;
	MemoryContext old;

	if (event->position != kept.first + kept.count || kept.count == OBX_STREAM_EVENTS ||
		kept.bytes > OBX_STREAM_BYTES)
		forget_stretch(event->position);

	entry = &kept.events[kept.count];
	old = MemoryContextSwitchTo(kept.memory);
	entry->tuple = ExecCopySlotHeapTuple(event->slot);
	MemoryContextSwitchTo(old);
	entry->id = event->id;
	entry->xid = event->xid;
	entry->positioned_at = event->positioned_at;
	kept.bytes += entry->tuple->t_len;
	kept.count++;
	if (entry->tuple->t_len > OBX_STREAM_LARGE)
		forget_stretch(event->position + 1);
}

void
obx_stream_begin(int64 after, int64 after_id)
{
	Oid			log = obx_object_require(OBX_EVENT);
	Relation	table;

	if (kept.memory == NULL)
		kept.memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox stream",
											ALLOCSET_DEFAULT_SIZES);
	if (kept.log != log)
	{
		forget_stretch(0);
		kept.log = log;
	}

	table = table_open(log, AccessShareLock);
	stream.slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);
	table_close(table, AccessShareLock);
	stream.position = after;
	stream.id = after_id;
	stream.reader = NULL;
}

bool
obx_stream_next(ObxReadEvent *event)
{
	int64		index = stream.position + 1 - kept.first;

	if (stream.reader == NULL && index >= 0 && index < kept.count)
	{
		const KeptEvent *entry = &kept.events[index];

		ExecStoreHeapTuple(entry->tuple, stream.slot, false);
		event->position = stream.position + 1;
		event->id = entry->id;
		event->xid = entry->xid;
		event->positioned_at = entry->positioned_at;
		event->slot = stream.slot;
	}
	else
	{
		if (stream.reader == NULL)
			stream.reader = obx_reader_begin(GetActiveSnapshot(), stream.position, stream.id,
											 false);
		if (!obx_reader_next(stream.reader, event))
			return false;
		keep_event(event);
	}
	stream.position = event->position;
	stream.id = event->id;
	return true;
}

void
obx_stream_end(void)
{
	if (stream.reader != NULL)
		obx_reader_end(stream.reader);
	ExecDropSingleTupleTableSlot(stream.slot);
	stream.reader = NULL;
	stream.slot = NULL;
}
