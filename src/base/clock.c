/*
 * Time that passes, whatever the clock is set to.
 *
 * A clock that was a year ahead for a second must not leave a process asleep,
 * or a retry waiting, for a year.  So what waits in memory waits by a clock that
 * is never set; and what is stored, which must outlive the server, is held
 * against the longest interval that it can have been noted for.
 */
#include "postgres.h"

#include <time.h>

#include "utils/timestamp.h"

#include "base/clock.h"

/* Added to what has passed since the machine was started. */
static int64 offset = 0;

static int64
read_monotonic(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * USECS_PER_SEC + now.tv_nsec / 1000;
}

void
obx_clock_init(void)
{
	offset = GetCurrentTimestamp() - read_monotonic();
}

TimestampTz
obx_clock_now(void)
{
	return read_monotonic() + offset;
}

TimestampTz
obx_clock_from_time(TimestampTz time)
{
	if (TIMESTAMP_NOT_FINITE(time))
		return time;
	return time - GetCurrentTimestamp() + obx_clock_now();
}

/* The same each time, as long as nobody sets the clock. */
TimestampTz
obx_clock_to_time(TimestampTz clock)
{
	int64		difference = GetCurrentTimestamp() - obx_clock_now();

	if (TIMESTAMP_NOT_FINITE(clock) || (difference < USECS_PER_SEC && difference > -USECS_PER_SEC))
		return clock;
	return clock + difference;
}

bool
obx_clock_was_ahead(TimestampTz noted, int64 longest)
{
	return !TIMESTAMP_NOT_FINITE(noted) &&
		noted - OBX_CLOCK_STEP > GetCurrentTimestamp() + longest;
}
