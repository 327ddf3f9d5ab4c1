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
 * For who has the lane loaded: reads the log up to a position, and what is to
 * be handed out of it is owed; false where the lane must not come there yet.
 */
extern bool obx_collect_read_to(ObxPullLane *work, int64 to);

#endif							/* OBX_PULL_COLLECT_H */
