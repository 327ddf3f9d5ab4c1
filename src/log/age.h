/*
 * How old positions are: the log by time, whatever the clock has done.
 */
#ifndef OBX_AGE_H
#define OBX_AGE_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

#include "log/segment.h"

/*
 * The first segment that was made at or after that time, and holds events;
 * NULL if none was.
 */
extern ObxSegment *obx_age_find_since(TimestampTz time, Snapshot snapshot);

/*
 * All positions before this one are of segments that were made at or before
 * that time.
 */
extern int64 obx_age_position_after(TimestampTz time, Snapshot snapshot);

#endif							/* OBX_AGE_H */
