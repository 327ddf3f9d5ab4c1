/*
 * Which lanes are cheap.
 *
 * A dispatcher keeps what it has read of the log for the lanes that come next.
 * If a lane costs less than the reading, because next to nothing matches, a
 * dispatcher that has read already should take it, and not a process that
 * would have to read for it.  The lane that comes first, and so causes the
 * reading, does not count as expensive for that.  The cost of reading is
 * measured, because machines differ.
 *
 * Must not know what becomes of lanes that are cheap.
 */
#include "postgres.h"

#include "base/cpu.h"
#include "dispatch/stream.h"
#include "worker/cheap_lane.h"

/* Passes that read fewer events of the log tell more of beginning and ending. */
#define MEASURED_EVENTS 256

/* A lane is cheap if it costs at most that part of the reading. */
#define CHEAP_PART 0.5

/* Microseconds of an event that is read, 0 while not known; the last ones weigh most. */
static double reading_cost = 0;

/* When the pass began. */
static int64 began_cpu;
static ObxReading began_reading;

void
obx_cheap_lane_begin(void)
{
	began_reading = obx_stream_reading();
	began_cpu = obx_cpu_time();
}

bool
obx_cheap_lane_end(int64 read)
{
	int64		cpu = obx_cpu_time() - began_cpu;
	ObxReading	reading = obx_stream_reading();
	int64		events = reading.events - began_reading.events;
	int64		reading_cpu = reading.cpu - began_reading.cpu;

	if (events >= MEASURED_EVENTS)
	{
		double		cost = (double) reading_cpu / events;

		reading_cost = reading_cost == 0 ? cost : (3 * reading_cost + cost) / 4;
	}
	return cpu - reading_cpu <= read * reading_cost * CHEAP_PART;
}
