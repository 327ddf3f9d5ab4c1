/*
 * Reading events in position order.
 */
#ifndef OBX_READ_H
#define OBX_READ_H

#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "log/event.h"

typedef struct ObxReader ObxReader;

/* An event and its position; the slot is valid until the next call. */
typedef struct ObxReadEvent
{
	int64		position;
	int64		id;
	uint64		xid;
	TimestampTz positioned_at;	/* when it got its position */
	TupleTableSlot *slot;		/* columns as in outbox.event */
} ObxReadEvent;

/*
 * Reads the events after a position, or from the oldest kept one if that is
 * later.  "after_id" is the id of the event at that position, or 0; with the
 * id, resuming inside a large transaction is cheap.
 *
 * The snapshot must be registered or active until the end; segments that it
 * does not see are not read.  Memory is taken from CurrentMemoryContext.
 *
 * "keep_locks" keeps the locks on partitions until the transaction ends, so
 * that values stored out of line can be fetched later.  A permanent reader
 * must not use it, or retention would never find a partition free; the events
 * that its subscription still needs are not dropped anyway.
 */
extern ObxReader *obx_reader_begin(Snapshot snapshot, int64 after, int64 after_id,
								   bool keep_locks);
extern bool obx_reader_next(ObxReader *reader, ObxReadEvent *event);
extern void obx_reader_end(ObxReader *reader);

/* Finds an event with a position by its id alone; false if none is kept. */
extern bool obx_event_find_by_id(Snapshot snapshot, int64 id, TupleTableSlot *slot);

/* The position of an event, 0 if it has none (yet) or is not kept. */
extern int64 obx_event_position(Snapshot snapshot, int64 id);

/*
 * Like the function above, for an event whose transaction is known, which
 * makes it cheap.  It is cheaper still for events in ascending order, because
 * the place of the last one is remembered.  A place begins zeroed, except its
 * memory context, which belongs to it.
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
