/*
 * Segments: the transactions in the order of the log, with the positions of
 * their events.
 */
#ifndef OBX_SEGMENT_H
#define OBX_SEGMENT_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "log/xid_snapshot.h"

/*
 * A segment lists at most this many transactions; a larger difference takes
 * several.
 */
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
 * All these functions read with the given snapshot (NULL: a new one) into
 * CurrentMemoryContext, and return NULL if there is no such segment.
 */

/*
 * The newest segment; it may have no events after retention has dropped all.
 */
extern ObxSegment *obx_segment_find_last(Snapshot snapshot);

/* The segment that contains the position, or else the first one after it. */
extern ObxSegment *obx_segment_find_at(int64 position, Snapshot snapshot);

/*
 * The times between which the events of the segment at the position lie; false
 * if there is none.
 */
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

/* The segment that lists the transaction. */
extern ObxSegment *obx_segment_find_xid(uint64 xid, Snapshot snapshot);

/*
 * Does the segment list the transaction?  If so, returns also the first
 * position and the number of its events.
 */
extern bool obx_segment_lists(const ObxSegment *segment, uint64 xid, int64 *first_position,
							  int64 *events);

/*
 * Takes the lock under which segments are written, until the transaction ends:
 * no other session assigns positions while it is held.  False if another
 * session has it.
 */
extern bool obx_segment_lock(bool wait);

/*
 * Releases it early; for a session that has written no segment and must not
 * delay others.
 */
extern void obx_segment_unlock(void);

/*
 * Waits until no segment is being written.  A segment that a later snapshot
 * does not show was made after the call.
 */
extern void obx_segment_wait_for_writer(void);

/*
 * Fills in the columns that cover all segments so far, from the one before
 * (NULL: none).
 */
extern void obx_segment_insert(ObxSegment *segment, const ObxSegment *before);

/*
 * Deletes segments that begin at or after "from" and end before "before", at
 * most this many.  Returns the place to continue from, or "before" after the
 * last one.  A caller that deletes a segment has deleted all before it:
 * searches rely on that (probe.c).
 */
extern int64 obx_segment_delete(int64 from, int64 before, int64 limit);

/*
 * The last assigned position, 0 if there never was one; and the oldest kept
 * one, 0 if there is none.
 */
extern int64 obx_segment_head(Snapshot snapshot);
extern int64 obx_segment_oldest(Snapshot snapshot);

static inline int64
obx_segment_last_position(const ObxSegment *segment)
{
	return segment->first_position + segment->events - 1;
}

#endif							/* OBX_SEGMENT_H */
