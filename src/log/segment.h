/*
 * Segments: which positions the events of which transactions take.
 */
#ifndef OBX_SEGMENT_H
#define OBX_SEGMENT_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "log/xid_snapshot.h"

/* A segment lists at most so many transactions; a larger difference takes several. */
#define OBX_SEGMENT_TRANSACTIONS	10000

typedef struct ObxSegmentTransaction
{
	uint64		xid;
	int64		events;
} ObxSegmentTransaction;

typedef struct ObxSegment
{
	int64		first_position;
	int64		events;
	TimestampTz time;			/* when it was made */
	ObxXidSnapshot *snapshot;	/* up to here events have positions */
	int64		min_id;			/* of its events, as are the next three */
	int64		max_id;
	TimestampTz min_time;
	TimestampTz max_time;
	int64		highest_id;		/* of its events and of all those before */
	TimestampTz latest_time;	/* of its own time and all those before */
	int			ntransactions;
	ObxSegmentTransaction *transactions;	/* in order */
} ObxSegment;

/*
 * All of these read with the given snapshot (NULL: a new one) into
 * CurrentMemoryContext, and return NULL where there is none.
 */

/* The newest; may hold no events once retention has dropped all there were. */
extern ObxSegment *obx_segment_find_last(Snapshot snapshot);

/* The one that holds the position, or else the first one after it. */
extern ObxSegment *obx_segment_find_at(int64 position, Snapshot snapshot);

/* The times between which the events lie of the one that holds the position; false for none. */
extern bool obx_segment_span(int64 position, Snapshot snapshot, TimestampTz *first,
							 TimestampTz *last);

/* A search for the segments in which an event of some id may be. */
typedef struct ObxIdSearch
{
	int64		id;
	int64		next_position;	/* where to look on */
	uint64		first_xmax;		/* of the first segment made after the id was
								 * drawn */
	uint64		bound;			/* above the xid of whoever drew it, 0: not
								 * known yet */
	uint64		last_xmax;		/* behind segments of this snapshot it cannot
								 * be, 0: not known yet */
} ObxIdSearch;

extern void obx_segment_search(ObxIdSearch *search, int64 event_id, Snapshot snapshot);
extern ObxSegment *obx_segment_search_next(ObxIdSearch *search, Snapshot snapshot);

/* The one that lists the transaction. */
extern ObxSegment *obx_segment_find_xid(uint64 xid, Snapshot snapshot);

/* Does it?  Then also the first position of its events, and how many there are. */
extern bool obx_segment_lists(const ObxSegment *segment, uint64 xid, int64 *first_position,
							  int64 *events);

/*
 * The lock under which segments are written, until the transaction ends: while
 * it is held nobody else gives a position.  False if someone has it.
 */
extern bool obx_segment_lock(bool wait);

/* For who has written none, and must not hold others up until then. */
extern void obx_segment_unlock(void);

/*
 * Waits until no segment is being written: what a snapshot taken after does
 * not show was made after the call.
 */
extern void obx_segment_settle(void);

/* Fills in what it says of all segments from the one before (NULL: none). */
extern void obx_segment_insert(ObxSegment *segment, const ObxSegment *before);

/*
 * Deletes those that begin at or after "from" and end before "before", at most
 * so many; returns where to go on, or "before" when that was all.  Whoever
 * deletes one has deleted all before it: searches rest on that (probe.c).
 */
extern int64 obx_segment_delete(int64 from, int64 before, int64 limit);

/* The last position given, 0 if none ever was; and the oldest kept, 0 if none is. */
extern int64 obx_segment_head(Snapshot snapshot);
extern int64 obx_segment_oldest(Snapshot snapshot);

static inline int64
obx_segment_last_position(const ObxSegment *segment)
{
	return segment->first_position + segment->events - 1;
}

#endif							/* OBX_SEGMENT_H */
