/*
 * A lane of a pull subscription, and what of it is handed out.
 */
#ifndef OBX_PULL_LANE_H
#define OBX_PULL_LANE_H

#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "dispatch/batch.h"
#include "dispatch/lane.h"

/* A lane at work, its lock held. */
typedef struct ObxPullLane
{
	const ObxSubscription *subscription;
	ObxProgress progress;
	ObxLane    *lane;
	ObxBatch   *batch;
	bool		changed;		/* progress must be written */
	bool		must_drain;		/* what comes next is handed out alone, after
								 * what is out */
} ObxPullLane;

/* Is its receipt still good, even if nothing is left of the hand-out? */
extern bool obx_pull_lane_is_in_force(const ObxProgress *progress);

/* How many events it has, whether the receipt is still good or not. */
static inline int
obx_pull_lane_handed(const ObxProgress *progress)
{
	return progress->nhanded + progress->retries.count;
}

/* Is something handed out? */
extern bool obx_pull_lane_is_out(const ObxProgress *progress);

/* Was its newest hand-out acked to its end, or released? */
extern bool obx_pull_lane_is_ended(const ObxProgress *progress);

/* Ends the hand-out: nobody has it any more, and its receipt is refused. */
extern void obx_pull_lane_end(ObxProgress *progress);

/* Does the consumer's transaction see the lane as it is? */
extern bool obx_pull_lane_is_visible(const ObxProgress *progress);

/* Reads what the lane waits for. */
extern void obx_pull_lane_load(ObxPullLane *work);

/* Activates the snapshot to read the log with. */
extern void obx_pull_lane_push_snapshot(void);

extern ObxBatch *obx_pull_lane_make_batch(ObxPullLane *work, int size);

/* How far the log was read. */
extern void obx_pull_lane_place(const ObxProgress *progress, int64 *position, int64 *id);

/*
 * Moves the position behind all events that are dealt with: before the first
 * one that is owed or, if none is left, to the place up to which the log was
 * read.  An event that was read is not read again: it was acked, or has a row.
 */
extern void obx_pull_lane_pass(ObxProgress *progress);

/* Writes the progress, with its position behind all that is dealt with. */
extern void obx_pull_lane_write(ObxPullLane *work);

/*
 * Forgets what is handed out and what was read: the lane goes on after
 * progress->position.  The caller moves that, under the lane's lock.
 */
extern void obx_pull_lane_drop(ObxProgress *progress);

#endif							/* OBX_PULL_LANE_H */
