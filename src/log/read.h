/*
 * Reading events in position order.
 */
#ifndef OBX_READ_H
#define OBX_READ_H

#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "log/event.h"

typedef struct ObxReader ObxReader;

/* An event and where it stands; the slot is valid until the next call. */
typedef struct ObxReadEvent
{
	int64		position;
	int64		id;
	uint64		xid;
	TimestampTz positioned_at;	/* when it got its position */
	TupleTableSlot *slot;		/* columns as in outbox.event */
} ObxReadEvent;

/*
 * Reads the events after a position, or from the oldest kept if that is
 * later.  "after_id" is the id of the event at that position, or 0: knowing
 * it makes resuming inside a large transaction cheap.
 *
 * The snapshot must be registered or active until the end; what it does not
 * see of the segments is not read.  Memory is taken from CurrentMemoryContext.
 *
 * "keep_locks" keeps those on partitions until the transaction ends, so that
 * values stored out of line can be fetched later.  Whoever reads all the time
 * must do without, or retention would never find a partition free; what its
 * subscription still needs is not dropped.
 */
extern ObxReader *obx_reader_begin(Snapshot snapshot, int64 after, int64 after_id,
								   bool keep_locks);
extern bool obx_reader_next(ObxReader *reader, ObxReadEvent *event);
extern void obx_reader_end(ObxReader *reader);

/* One that has a position, by its id alone; false if none such is kept. */
extern bool obx_event_find_by_id(Snapshot snapshot, int64 id, TupleTableSlot *slot);

/* The position of an event, 0 if it has none (yet) or is not kept. */
extern int64 obx_event_position(Snapshot snapshot, int64 id);

/*
 * The same for an event whose transaction is known, which makes it cheap; and
 * cheaper still for events that are asked for in their order, since the place
 * of the last one is remembered.  A place begins as zeros but for the memory,
 * which is its own.
 */
typedef struct ObxPlace
{
	MemoryContext memory;
	struct ObxSegment *segment;
	uint64		xid;
	int64		id;
	int64		position;
} ObxPlace;

extern int64 obx_event_locate(Snapshot snapshot, uint64 xid, int64 id, ObxPlace *place);

#endif							/* OBX_READ_H */
