/*
 * The queue: the lanes of all databases, and which of them wait for a dispatcher.
 *
 * A lane of a subscription is IDLE until something may be there to do, READY
 * until a dispatcher of its owner takes it, and RUNNING while that one serves
 * it.  All of this is advice that saves looking into tables: that a lane is
 * served once at a time, and from where, is decided inside a pass.
 */
#ifndef OBX_QUEUE_H
#define OBX_QUEUE_H

#include "datatype/timestamp.h"

#include "dispatch/pass.h"
#include "worker/slot.h"

/*
 * Lanes that fit, in all databases together.  Where more are asked for, each
 * database has its share of the places, and its lanes take turns in them.
 */
#define OBX_QUEUE_SIZE 4096

typedef enum ObxQueuedState
{
	OBX_QUEUED_FREE,
	OBX_QUEUED_IDLE,
	OBX_QUEUED_READY,
	OBX_QUEUED_RUNNING
} ObxQueuedState;

/* All fields under obx_slots->lock. */
typedef struct ObxQueuedLane
{
	uint32		generation;		/* counts uses of the place */
	ObxQueuedState state;
	Oid			database;
	Oid			owner;
	int32		subscription;
	int32		lane;
	int64		seen;			/* the head when it was last looked at, -1
								 * never */
	TimestampTz due;			/* look again then, DT_NOEND for no need */
	TimestampTz not_before;		/* and not earlier, whatever happens */
	TimestampTz ready_since;	/* READY: its place in the queue */
	bool		cheap;			/* new, or in the midst of many events that
								 * cost little */
	int			failures;		/* in a row, of the infrastructure */
	int			batch_size;		/* of the subscription */
	int			careful;		/* after an unclean start: how many events to
								 * take at most; 0 for no bound */
	bool		again;			/* RUNNING: something changed, look once more */
	char		name[NAMEDATALEN];	/* the subscription's, for display */
} ObxQueuedLane;

typedef struct ObxQueue
{
	TimestampTz short_at;		/* when there was a lane too many last */
	int			used;			/* lanes from here on are FREE */
	bool		unclean;		/* the server did not shut down before */
	ObxQueuedLane lanes[OBX_QUEUE_SIZE];
} ObxQueue;

extern ObxQueue *obx_queue;

extern void obx_queue_init(void);

/*
 * IDLE -> READY -> RUNNING -> IDLE or READY; READY -> IDLE where it was put off;
 * any -> FREE -> IDLE.  Locked.
 */
extern void obx_queue_set_state(ObxQueuedLane *lane, ObxQueuedState state);

/* A lane that its database should have. */
typedef struct ObxWantedLane
{
	int32		subscription;
	int32		lane;
	Oid			owner;
	int			batch_size;
	const char *name;
} ObxWantedLane;

/*
 * Sequencer: makes our database's lanes these, which are sorted by
 * subscription and lane.  With "afresh", all of them are looked at again.
 * Returns the number of lanes without a place: then call it again soon; lanes
 * with nothing to do give their places to them.  Not locked.
 */
extern int	obx_queue_reconcile(const ObxWantedLane *wanted, int count, bool afresh);

/* Was there a lane too many lately?  Locked or shared. */
extern bool obx_queue_is_short(void);

/*
 * Sequencer: makes READY what has not seen the head or is due.  Returns when
 * the next one is due.  Not locked.
 */
extern TimestampTz obx_queue_refresh(int64 head, TimestampTz now);

/* Sequencer: no READY lane of that owner is READY any more.  Not locked. */
extern void obx_queue_withdraw(Oid owner);

/* A lane in a dispatcher's hands. */
typedef struct ObxLaneClaim
{
	int			index;
	uint32		generation;
	int32		subscription;
	int32		lane;
	int64		head;
	bool		shared;			/* other lanes of the owner wait */
	int64		suspect;		/* as in ObxPassRequest */
	int			careful;
	char		name[NAMEDATALEN];
} ObxLaneClaim;

/*
 * Until when a READY lane is better left to other dispatchers of its owner than
 * "own", or, if NULL, than one more: 0 if it is not.  A cheap lane costs less
 * than to read the log for it, so one dispatcher serves them all, out of what
 * it has read for the first; a second one helps if they have to wait, a third
 * if they then still do, and so on.  Locked or shared.
 */
extern TimestampTz obx_queue_left_until(const ObxQueuedLane *lane, const ObxSlot *own,
										TimestampTz now);

/*
 * Dispatcher: takes the lane of its owner that has been READY longest; when
 * there is none, it is IDLE from then on, and looks again at *look_at.  Not
 * locked.
 */
extern bool obx_queue_claim(ObxLaneClaim *claim, TimestampTz *look_at);

/*
 * Dispatcher: gives it back; "cheap" if it cost little for each event.  Not
 * locked.
 */
extern void obx_queue_release(const ObxLaneClaim *claim, const ObxPassResult *result, bool cheap);

/*
 * Dispatcher: true when another lane of its owner waits and nobody but us will
 * take it.  For lanes of other owners we should have to leave, which we are
 * asked to.
 */
extern bool obx_queue_is_contended(void);

#endif							/* OBX_QUEUE_H */
