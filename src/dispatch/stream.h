/*
 * The log as dispatchers read it: what one subscription has read and decoded
 * is there for the next.
 */
#ifndef OBX_STREAM_H
#define OBX_STREAM_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"

#include "catalog/delivery.h"

/*
 * So many events are kept.  Lanes that keep to half of that in a batch, and
 * take turns, find there what the first of them has read.
 */
#define OBX_STREAM_EVENTS	8192

/* An event, with what decides about it and what it hands down. */
typedef struct ObxStreamEvent
{
	int64		position;
	int64		id;
	uint64		xid;
	HeapTuple	tuple;			/* a composite datum, unless values are out of
								 * line */
	const text *type;			/* in the tuple, as are the next two */
	const text *correlation_id; /* NULL for none */
	const struct varlena *headers;	/* jsonb; NULL for an empty object */
	TimestampTz positioned_at;	/* when it got its position */
	int64		causation_id;	/* 0 for none */
	ObxOrderKey key;
} ObxStreamEvent;

/*
 * Reads the events after a position with the active snapshot; "after_id" as
 * for obx_reader_begin().  One stream at a time; ends by obx_stream_end(), or
 * with the transaction's abort.
 */
extern void obx_stream_begin(int64 after, int64 after_id);

/* NULL at the end; the event is valid until the next call, unless pinned. */
extern const ObxStreamEvent *obx_stream_next(void);
extern void obx_stream_end(void);

/* What reading the log, and decoding it, has cost this process so far. */
typedef struct ObxReading
{
	int64		events;			/* not those that were kept */
	int64		cpu;			/* microseconds */
} ObxReading;

extern ObxReading obx_stream_reading(void);

/*
 * Makes the event returned last stay valid until obx_stream_release(); false
 * if too many do, and the caller must make a copy.
 */
extern bool obx_stream_pin(void);
extern void obx_stream_release(void);

/*
 * Copies the slot's event into CurrentMemoryContext and decodes it, all but
 * the position and its time; "view", made by the other function, is overwritten.
 */
extern void obx_event_decode(TupleTableSlot *slot, TupleTableSlot *view, ObxStreamEvent *event);
extern TupleTableSlot *obx_event_make_view(void);

#endif							/* OBX_STREAM_H */
