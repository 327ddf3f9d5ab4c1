/*
 * The age of positions: the log by time, also after the clock was wrong.
 */
#ifndef OBX_AGE_H
#define OBX_AGE_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "log/segment.h"

/*
 * The first segment that was made at or after that time and contains events,
 * or NULL.
 */
extern ObxSegment *obx_age_find_since(TimestampTz time, Snapshot snapshot);

/*
 * Returns a position; all positions before it are of segments that were made
 * at or before that time.
 */
extern int64 obx_age_position_after(TimestampTz time, Snapshot snapshot);

#endif							/* OBX_AGE_H */
