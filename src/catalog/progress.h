/*
 * Rows of outbox.progress: how far a lane has come.
 *
 * Insert-only; the newest version counts, and inserting the next version is
 * the compare-and-set: of two that read the same version, one fails.
 */
#ifndef OBX_PROGRESS_H
#define OBX_PROGRESS_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "catalog/positions.h"

/*
 * Superseded versions that are kept for a while: outbox.status measures
 * latencies by them.
 */
#define OBX_PROGRESS_HISTORY 1000

/* The position of a lane whose place in the log nobody knows, after a restore. */
#define OBX_POSITION_UNKNOWN (-1)

/* What outbox.status says of one whose lanes are at OBX_POSITION_UNKNOWN. */
#define OBX_UNKNOWN_ERROR \
	"how far it has come is not known: the log and the progress of subscriptions were not restored together"

typedef struct ObxProgress
{
	int32		subscription;
	int32		lane;
	int64		version;
	int64		position;		/* last position dealt with */
	int64		event_id;		/* its event's id, 0 if unknown */
	int64		delivered;		/* in the lane's life */
	int64		failed;

	/*
	 * Lanes of pull subscriptions: what is handed out and what was read but
	 * is not dealt with; all 0 where there is nothing of the kind.
	 */
	int64		receipt;		/* of the newest hand-out, 0 for none; acked
								 * to its end if there is no receiver */
	uint64		receiver;		/* transaction that received it */
	TimestampTz lease_until;	/* DT_NOBEGIN: ends with that transaction */
	TimestampTz noted_at;		/* when the version was written */
	ObxPositions owed;			/* all after "position" */
	int			nhanded;		/* of them, from the first, are handed out */
	ObxPositions retries;		/* and these, which have delivery rows, are */
	int64		read_position;	/* if any is owed: how far the log was read */
	int64		read_id;
	char	   *holder;			/* application_name of who received, NULL for
								 * none */
	int			holder_pid;

	/*
	 * After a hand-out that ended without a word: how many events the next
	 * ones have at most, 0 for no bound, until so many are dealt with.
	 */
	int			careful;
	int			careful_left;

	/* Lanes of aggregates: none of their windows is due before; 0 for never */
	TimestampTz due;

	/*
	 * What became of events that had rows in outbox.delivery, for the next
	 * version only.
	 */
	int			nsettled;
	struct ObxSettled *settled;
} ObxProgress;

/*
 * Is the newest hand-out's lease good?  Not beyond its length: where the clock
 * was ahead when it was noted, it has ended.
 */
static inline bool
obx_progress_is_leased(const ObxProgress *progress)
{
	return progress->lease_until > GetCurrentTimestamp() &&
		!obx_clock_was_ahead(progress->noted_at, 0);
}

/* Of two times that an aggregate may be due, 0 for never. */
static inline TimestampTz
obx_scheduled_earlier(TimestampTz one, TimestampTz other)
{
	if (one == 0 || other == 0)
		return one == 0 ? other : one;
	return Min(one, other);
}

/* How an exception has ended. */
typedef struct ObxSettled
{
	int64		position;
	int64		attempts;		/* with which one it was delivered, or: */
} ObxSettled;

#define OBX_SETTLED_FILTERED	0
#define OBX_SETTLED_DISCARDED	(-1)

/* A version of a lane's progress, as history. */
typedef struct ObxPassage
{
	int64		position;
	int64		delivered;
	TimestampTz time;
	int			nsettled;
	ObxSettled *settled;
} ObxPassage;

/* The newest version; false when the lane has none. */
extern bool obx_progress_find(int32 subscription, int32 lane, ObxProgress *progress);

/* Reads its lists of positions, into CurrentMemoryContext. */
extern void obx_progress_load(ObxProgress *progress);

/* The number of the newest version that the snapshot sees, 0 for none. */
extern int64 obx_progress_version(int32 subscription, int32 lane, Snapshot snapshot);

/*
 * The versions of a lane that are kept, from the newest on, at most
 * OBX_PROGRESS_HISTORY of them; in CurrentMemoryContext.
 */
extern ObxPassage *obx_progress_history(int32 subscription, int32 lane, int *count);

/* The next subscription that has progress, and the last of its lanes; false at the end. */
extern bool obx_progress_next(int32 *subscription, int32 *last_lane);

/*
 * Writes *progress as the version after progress->version, which it raises.
 * Fails (40001) if someone else did.
 */
extern void obx_progress_advance(ObxProgress *progress);

/* Notes in the version to come what has become of an exception. */
extern void obx_progress_record_outcome(ObxProgress *progress, int64 position, int64 attempts);

/*
 * Deletes rows of a subscription's lanes from one on, so many at most, of lanes
 * up to another one; *last_lane is where to go
 * on, if the transaction commits.  Returns how many: less than "limit" at the
 * end, -1 while another transaction deletes rows.
 */
extern int	obx_progress_delete_some(int32 subscription, int32 first_lane, int32 *last_lane,
									 int limit);

/*
 * Deletes superseded versions beyond the history that vacuum can remove at
 * once; a bounded number of them, in a bounded number of lanes, from where the
 * last call stopped.  True if there may be more.  Costs nothing while the xmin
 * horizon is held back.
 */
extern bool obx_progress_clean(void);

#endif							/* OBX_PROGRESS_H */
