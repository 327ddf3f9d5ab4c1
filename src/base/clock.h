/*
 * Time that passes, whatever the clock is set to.
 */
#ifndef OBX_CLOCK_H
#define OBX_CLOCK_H

#include "datatype/timestamp.h"

/* Milliseconds in microseconds. */
#define OBX_MS(n) ((n) * INT64CONST(1000))

/* Steps of the clock that are nothing to worry about. */
#define OBX_CLOCK_STEP (10 * USECS_PER_SEC)

/* In the postmaster, so that all processes count from one moment. */
extern void obx_clock_init(void);

/*
 * The time by which intervals are measured and processes wait for one another:
 * that of the clock when the library was loaded, and what has passed since.
 * The same in all processes of the server; a clock that is set does not touch
 * it.  Not to be stored, since it is another one after a restart.
 */
extern TimestampTz obx_clock_now(void);

/* A time of the clock as it is set now, by that time; and the other way round. */
extern TimestampTz obx_clock_from_time(TimestampTz time);
extern TimestampTz obx_clock_to_time(TimestampTz clock);

/*
 * Was the time, which is stored and lay at most "longest" microseconds ahead
 * when it was noted, noted by a clock that was ahead of today's?  Then it is no
 * time to wait for.
 */
extern bool obx_clock_was_ahead(TimestampTz noted, int64 longest);

#endif							/* OBX_CLOCK_H */
