/*
 * Collecting what a lane hands out next.
 */
#ifndef OBX_PULL_COLLECT_H
#define OBX_PULL_COLLECT_H

#include "pull/lane.h"

/* Events in one hand-out, and under one receipt, at most. */
#define OBX_HANDOUT_MAX		10000
#define OBX_HANDOUT_OUT		100000

/*
 * Fills the batch with what comes next in the lane behind what is handed out,
 * at most so many; false if there is nothing.  What must wait, or does not
 * pass the filter, is written.
 */
extern bool obx_collect_next(ObxPullLane *work, int max_events);

/* The positions of the batch's items, in CurrentMemoryContext. */
extern int64 *obx_collect_positions(const ObxBatch *batch);

/*
 * Reads the log up to a position for a lane that is loaded; the events to be
 * handed out are owed.  False where the lane must not read that far yet.
 */
extern bool obx_collect_read_to(ObxPullLane *work, int64 to);

#endif							/* OBX_PULL_COLLECT_H */
