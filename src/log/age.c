/*
 * How old positions are: the log by time, whatever the clock has done.
 *
 * Segments are made one after another, so a time is searched for by halves:
 * latest_time never falls, and steps back of the clock do no harm.  But a clock
 * that was ahead for a moment has left a latest_time which all segments since
 * then have, until that date.  Those with one in the future are told apart by
 * their own time; and one whose own time is in the future tells nothing about
 * itself, but was made before the next one that does tell.
 *
 * In doubt a segment counts as made later.  That keeps events longer, and lets
 * who asks for a time read a little more.
 */
#include "postgres.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "log/age.h"

/* What is so far in the future was noted under a wrong clock. */
#define OBX_CLOCK_TOLERANCE	USECS_PER_MINUTE

typedef struct Search
{
	Snapshot	snapshot;
	TimestampTz time;
	TimestampTz now;
	int64		head;
} Search;

static bool
is_ahead(const Search *search, TimestampTz time)
{
	return time > search->now + OBX_CLOCK_TOLERANCE;
}

/* The first one from a position on, at growing distances, whose time can be right. */
static ObxSegment *
find_sane(const Search *search, int64 position)
{
	int64		step = 1;

	while (position <= search->head)
	{
		ObxSegment *segment = obx_segment_find_at(position, search->snapshot);

		CHECK_FOR_INTERRUPTS();
		if (segment == NULL || !is_ahead(search, segment->time))
			return segment;
		position = obx_segment_last_position(segment) + step;
		step *= 2;
	}
	return NULL;
}

/* Was the segment made at or after the time? */
static bool
is_reached(const Search *search, const ObxSegment *segment)
{
	if (!is_ahead(search, segment->latest_time))
		return segment->latest_time >= search->time;
	if (is_ahead(search, segment->time))
		segment = find_sane(search, obx_segment_last_position(segment) + 1);
	return segment == NULL || segment->time >= search->time;
}

/* The first position of the first segment made at or after the time; 0 for none. */
static int64
bisect(const Search *search)
{
	int64		low = obx_segment_oldest(search->snapshot);
	int64		high;
	ObxSegment *segment;

	if (low == 0)
		return 0;
	segment = obx_segment_find_at(search->head, search->snapshot);
	if (!is_reached(search, segment))
		return 0;

	/*
	 * the one looked for begins at "low" at the earliest, at "high" at the
	 * latest
	 */
	high = segment->first_position;
	while (low < high)
	{
		segment = obx_segment_find_at(low + (high - low) / 2, search->snapshot);
		if (is_reached(search, segment))
			high = segment->first_position;
		else
			low = obx_segment_last_position(segment) + 1;
	}
	return high;
}

/* With one snapshot, so that segments are where they were. */
static int64
find_position(Search *search, Snapshot snapshot)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox age",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	int64		position;

	if (snapshot == NULL)
		CommandCounterIncrement();
	search->snapshot = RegisterSnapshot(snapshot == NULL ? GetLatestSnapshot() : snapshot);
	search->now = GetCurrentTimestamp();
	search->head = obx_segment_head(search->snapshot);
	position = bisect(search);
	UnregisterSnapshot(search->snapshot);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	return position;
}

ObxSegment *
obx_age_find_since(TimestampTz time, Snapshot snapshot)
{
	Search		search = {.time = time};
	int64		position = find_position(&search, snapshot);

	return position > 0 ? obx_segment_find_at(position, snapshot) : NULL;
}

int64
obx_age_position_after(TimestampTz time, Snapshot snapshot)
{
	Search		search = {.time = time + 1};
	int64		position = find_position(&search, snapshot);

	return position > 0 ? position : search.head + 1;
}
