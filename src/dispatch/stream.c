/*
 * The log as dispatchers read it.
 *
 * Subscriptions are mostly at neighbouring positions.  So the parts of the log
 * that this process has read last are kept in memory, decoded, and the next
 * subscription finds them there: the log is read once, and matched against
 * many.  That is safe because an event and its position never change, and a
 * newer snapshot sees every event that an older one saw.
 *
 * The memory is divided into chunks of consecutive positions, and the least
 * recently used chunk is replaced first.  A chunk with events in a batch is
 * pinned: it may lose its place, but its memory stays until the batch is
 * finished.
 *
 * Must not know the readers, nor which events match.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/cpu.h"
#include "catalog/names.h"
#include "dispatch/lane.h"
#include "dispatch/stream.h"
#include "log/read.h"

/* What is kept: so many chunks of so many events, and about so many bytes each. */
#define CHUNKS			16
#define CHUNK_EVENTS	(OBX_STREAM_EVENTS / CHUNKS)
#define CHUNK_BYTES		(512 * 1024)

/* Taken at once, and kept when the chunk is used again. */
#define CHUNK_MEMORY	(256 * 1024)

/* Pinned chunks that have lost their place, before events must be copied. */
#define RETIRED_CHUNKS	CHUNKS

/* Lives in its own memory, with the tuples. */
typedef struct Chunk
{
	MemoryContext memory;
	int64		first;			/* position */
	int			count;
	Size		bytes;
	bool		pinned;
	uint64		used;			/* by the clock below */
	ObxStreamEvent events[CHUNK_EVENTS];
} Chunk;

static MemoryContext kept_memory = NULL;
static Oid	kept_log = InvalidOid;	/* OID of outbox.event: another one is
									 * another log */
static Chunk *kept[CHUNKS];
static bool kept_is_stale = false;
static List *retired = NIL;		/* of Chunk, pinned; in kept_memory */
static uint64 uses = 0;

/* The stream being read. */
static struct
{
	int64		position;		/* of the event last returned */
	int64		id;
	Chunk	   *chunk;			/* which has it, NULL at first */
	ObxReader  *reader;			/* NULL while what is kept serves */
	int64		reader_position;	/* of the event that it returned last */
	TupleTableSlot *view;
	int64		began_cpu;
	int64		read;			/* events, from the log */
}			stream;

static ObxReading reading = {0};

/* ---- an event ---- */

TupleTableSlot *
obx_event_make_view(void)
{
	Relation	table = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	TupleTableSlot *view = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);

	table_close(table, AccessShareLock);
	return view;
}

static Datum
get_column(TupleTableSlot *view, ObxEventColumn column, Datum none)
{
	bool		isnull;
	Datum		value = slot_getattr(view, column + 1, &isnull);

	return isnull ? none : value;
}

/* The headers, but NULL where there are none. */
static const struct varlena *
get_headers(TupleTableSlot *view)
{
	Datum		value = get_column(view, OBX_EVENT_HEADERS, (Datum) 0);
	Jsonb	   *headers;
	bool		empty;

	/* an empty object is a word: what is longer, need not be looked at */
	if (value == (Datum) 0 || VARSIZE_ANY(DatumGetPointer(value)) > VARHDRSZ + sizeof(uint32))
		return (const struct varlena *) DatumGetPointer(value);
	headers = DatumGetJsonbP(value);
	empty = JB_ROOT_COUNT(headers) == 0;
	if ((Pointer) headers != DatumGetPointer(value))
		pfree(headers);
	return empty ? NULL : (const struct varlena *) DatumGetPointer(value);
}

/* So it can be handed to functions as it is. */
static HeapTuple
copy_as_datum(TupleTableSlot *slot, TupleDesc tupdesc)
{
	bool		should_free;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
	HeapTuple	copy;

	/* what is out of line stays there until somebody wants it */
	if (HeapTupleHasExternal(tuple))
		return should_free ? tuple : heap_copytuple(tuple);
	copy = palloc(HEAPTUPLESIZE);
	*copy = *tuple;
	copy->t_data = DatumGetHeapTupleHeader(heap_copy_tuple_as_datum(tuple, tupdesc));
	if (should_free)
		heap_freetuple(tuple);
	return copy;
}

void
obx_event_decode(TupleTableSlot *slot, TupleTableSlot *view, ObxStreamEvent *event)
{
	HeapTuple	tuple = copy_as_datum(slot, view->tts_tupleDescriptor);

	ExecStoreHeapTuple(tuple, view, false);
	slot_getallattrs(view);
	event->tuple = tuple;
	event->id = DatumGetInt64(get_column(view, OBX_EVENT_ID, 0));
	event->xid = DatumGetUInt64(get_column(view, OBX_EVENT_XID, 0));
	event->type = DatumGetTextPP(get_column(view, OBX_EVENT_TYPE, 0));
	event->correlation_id = (const text *)
		DatumGetPointer(get_column(view, OBX_EVENT_CORRELATION_ID, 0));
	event->headers = get_headers(view);
	event->causation_id = DatumGetInt64(get_column(view, OBX_EVENT_CAUSATION_ID, 0));
	obx_event_key(view, &event->key);
}

/* ---- what is kept ---- */

/* Takes the chunk from its place. */
static void
retire_chunk(int place)
{
	Chunk	   *chunk = kept[place];

	kept[place] = NULL;
	if (stream.chunk == chunk)
		stream.chunk = NULL;
	if (!chunk->pinned)
		MemoryContextDelete(chunk->memory);
	else
	{
		MemoryContext old = MemoryContextSwitchTo(kept_memory);

		retired = lappend(retired, chunk);
		MemoryContextSwitchTo(old);
	}
}

/* A chunk that begins at a position, in the place of the one used longest ago. */
static Chunk *
begin_chunk(int64 first)
{
	MemoryContext memory = NULL;
	int			place = 0;
	Chunk	   *chunk;

	for (int i = 0; i < CHUNKS; i++)
		if (kept[i] == NULL || (kept[place] != NULL && kept[i]->used < kept[place]->used))
			place = i;
	if (kept[place] != NULL && !kept[place]->pinned)
	{
		/* its memory is there already */
		memory = kept[place]->memory;
		if (stream.chunk == kept[place])
			stream.chunk = NULL;
		kept[place] = NULL;
		MemoryContextReset(memory);
	}
	else if (kept[place] != NULL)
		retire_chunk(place);
	if (memory == NULL)
		memory = AllocSetContextCreate(kept_memory, "pg_outbox stretch of the log",
									   CHUNK_MEMORY, CHUNK_MEMORY, CHUNK_MEMORY);
	chunk = MemoryContextAlloc(memory, sizeof(Chunk));
	chunk->memory = memory;
	chunk->first = first;
	chunk->count = 0;
	chunk->bytes = 0;
	chunk->pinned = false;
	chunk->used = ++uses;
	kept[place] = chunk;
	return chunk;
}

static bool
has_position(const Chunk *chunk, int64 position)
{
	return chunk != NULL && position >= chunk->first && position < chunk->first + chunk->count;
}

static Chunk *
find_chunk(int64 position)
{
	if (has_position(stream.chunk, position))
		return stream.chunk;
	for (int i = 0; i < CHUNKS; i++)
		if (has_position(kept[i], position))
		{
			kept[i]->used = ++uses;
			return kept[i];
		}
	return NULL;
}

/* The chunk that this position continues, or a new one. */
static Chunk *
require_chunk(int64 position)
{
	for (int i = 0; i < CHUNKS; i++)
	{
		Chunk	   *chunk = kept[i];

		if (chunk != NULL && chunk->first + chunk->count == position &&
			chunk->count < CHUNK_EVENTS && chunk->bytes < CHUNK_BYTES)
			return chunk;
	}
	return begin_chunk(position);
}

static void
keep_event(const ObxReadEvent *read)
{
	Chunk	   *chunk = stream.chunk;
	ObxStreamEvent *event;
	MemoryContext old;

	if (chunk == NULL || chunk->first + chunk->count != read->position ||
		chunk->count == CHUNK_EVENTS || chunk->bytes >= CHUNK_BYTES)
		chunk = require_chunk(read->position);
	event = &chunk->events[chunk->count];
	old = MemoryContextSwitchTo(chunk->memory);
	obx_event_decode(read->slot, stream.view, event);
	MemoryContextSwitchTo(old);
	event->position = read->position;
	event->id = read->id;
	event->xid = read->xid;
	event->positioned_at = read->positioned_at;
	chunk->bytes += event->tuple->t_len;
	chunk->count++;
	stream.chunk = chunk;
}

static void
forget_all(void)
{
	for (int i = 0; i < CHUNKS; i++)
		if (kept[i] != NULL)
			retire_chunk(i);
}

/* A datum knows the version of its row type. */
static void
note_change(Datum arg, Oid relid)
{
	if (relid == kept_log || relid == InvalidOid)
		kept_is_stale = true;
}

/* ---- the stream ---- */

void
obx_stream_begin(int64 after, int64 after_id)
{
	Oid			log = obx_object_require(OBX_EVENT);

	if (kept_memory == NULL)
	{
		kept_memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox stream",
											ALLOCSET_SMALL_SIZES);
		CacheRegisterRelcacheCallback(note_change, (Datum) 0);
	}
	stream.view = obx_event_make_view();
	if (kept_log != log || kept_is_stale)
	{
		forget_all();
		kept_log = log;
		kept_is_stale = false;
	}
	stream.position = after;
	stream.id = after_id;
	stream.chunk = NULL;
	stream.reader = NULL;
	stream.read = 0;
	stream.began_cpu = obx_cpu_time();
}

/* Reads the next event from the log; false at its end. */
static bool
read_event(void)
{
	ObxReadEvent read;

	if (stream.reader != NULL && stream.reader_position != stream.position)
	{
		obx_reader_end(stream.reader);
		stream.reader = NULL;
	}
	if (stream.reader == NULL)
		stream.reader = obx_reader_begin(GetActiveSnapshot(), stream.position, stream.id, false);
	if (!obx_reader_next(stream.reader, &read))
		return false;
	keep_event(&read);
	stream.read++;
	stream.reader_position = read.position;
	stream.position = read.position;
	return true;
}

const ObxStreamEvent *
obx_stream_next(void)
{
	Chunk	   *chunk = find_chunk(stream.position + 1);
	const ObxStreamEvent *event;

	if (chunk != NULL)
	{
		stream.chunk = chunk;
		stream.position++;
	}
	else if (!read_event())
		return NULL;
	event = &stream.chunk->events[stream.position - stream.chunk->first];
	stream.id = event->id;
	return event;
}

void
obx_stream_end(void)
{
	if (stream.reader != NULL)
		obx_reader_end(stream.reader);
	ExecDropSingleTupleTableSlot(stream.view);
	stream.reader = NULL;
	stream.view = NULL;
	if (stream.read > 0)
	{
		reading.events += stream.read;
		reading.cpu += obx_cpu_time() - stream.began_cpu;
	}
}

ObxReading
obx_stream_reading(void)
{
	return reading;
}

bool
obx_stream_pin(void)
{
	if (list_length(retired) >= RETIRED_CHUNKS)
		return false;
	stream.chunk->pinned = true;
	return true;
}

void
obx_stream_release(void)
{
	ListCell   *lc;

	for (int i = 0; i < CHUNKS; i++)
		if (kept[i] != NULL)
			kept[i]->pinned = false;
	foreach(lc, retired)
		MemoryContextDelete(((Chunk *) lfirst(lc))->memory);
	list_free(retired);
	retired = NIL;
}
