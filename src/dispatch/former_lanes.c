/*
 * Events that a subscription handled before its lanes were moved or divided
 * anew.
 *
 * New lanes begin together at one position, and meet events that some former
 * lanes had passed already.  The number and the positions of the former lanes
 * determine these events.  So both are remembered, and an event is looked up
 * by its former lane.  Several divisions can be remembered in this way, each
 * until no lane is behind it.
 *
 * In the row, a set of lanes is a series of numbers: 1 if replayed plus 2 if
 * keyed, first, the number of lanes, and the position that each passed.
 *
 * Must not know which code moves lanes, nor under which locks.
 */
#include "postgres.h"

#include "base/compat.h"
#include "dispatch/former_lanes.h"
#include "dispatch/lane.h"
#include "log/event.h"

#define STRETCH_REPLAYED	1
#define STRETCH_KEYED		2
#define STRETCH_HEADER		3

static void
find_last(ObxFormerLanes *stretch)
{
	stretch->last = 0;
	for (int lane = 0; lane < stretch->nlanes; lane++)
		stretch->last = Max(stretch->last, stretch->passed[lane]);
}

/* ---- the row ---- */

List *
obx_former_lanes_list(const ObxSubscription *subscription)
{
	List	   *history = NIL;

	for (int i = 0; i + STRETCH_HEADER <= subscription->nhistory;)
	{
		ObxFormerLanes *stretch = palloc(sizeof(ObxFormerLanes));
		int64		flags = subscription->history[i++];

		stretch->replayed = (flags & STRETCH_REPLAYED) != 0;
		stretch->keyed = (flags & STRETCH_KEYED) != 0;
		stretch->first = subscription->history[i++];
		stretch->nlanes = (int) subscription->history[i++];
		stretch->passed = &subscription->history[i];
		i += stretch->nlanes;
		if (stretch->nlanes < 1 || i > subscription->nhistory)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("unexpected history of subscription \"%s\"", subscription->name)));
		find_last(stretch);
		history = lappend(history, stretch);
	}
	return history;
}

void
obx_former_lanes_set(ObxSubscription *subscription, const List *history)
{
	int			count = 0;
	int64	   *numbers;
	ListCell   *lc;

	foreach(lc, history)
		count += STRETCH_HEADER + ((ObxFormerLanes *) lfirst(lc))->nlanes;
	subscription->history = palloc(count * sizeof(int64));
	subscription->nhistory = count;

	numbers = subscription->history;
	foreach(lc, history)
	{
		const ObxFormerLanes *stretch = lfirst(lc);

		*numbers++ = (stretch->replayed ? STRETCH_REPLAYED : 0) |
			(stretch->keyed ? STRETCH_KEYED : 0);
		*numbers++ = stretch->first;
		*numbers++ = stretch->nlanes;
		for (int lane = 0; lane < stretch->nlanes; lane++)
			*numbers++ = stretch->passed[lane];
	}
}

ObxFormerLanes *
obx_former_lanes_make(const ObxSubscription *subscription, const int64 *passed)
{
	ObxFormerLanes *stretch = palloc(sizeof(ObxFormerLanes));

	stretch->replayed = false;
	stretch->keyed = subscription->ordering != OBX_ORDERING_NONE ||
		subscription->concurrency == 1;
	stretch->first = subscription->first_position;
	stretch->nlanes = subscription->concurrency;
	stretch->passed = palloc0(stretch->nlanes * sizeof(int64));
	if (passed != NULL)
		memcpy(stretch->passed, passed, stretch->nlanes * sizeof(int64));
	find_last(stretch);
	return stretch;
}

/* ---- what a stretch covers ---- */

static int64
lowest_passed(const ObxFormerLanes *stretch)
{
	int64		lowest = PG_INT64_MAX;

	for (int lane = 0; lane < stretch->nlanes; lane++)
		lowest = Min(lowest, stretch->passed[lane]);
	return lowest;
}

bool
obx_former_lanes_divide_alike(const ObxFormerLanes *one, const ObxFormerLanes *other)
{
	return one->nlanes == other->nlanes && one->keyed == other->keyed;
}

/* Does it say all that the other one says? */
static bool
covers(const ObxFormerLanes *stretch, const ObxFormerLanes *other)
{
	if (stretch->replayed != other->replayed || stretch->first > other->first)
		return false;
	if (lowest_passed(stretch) >= other->last)
		return true;
	if (!obx_former_lanes_divide_alike(stretch, other))
		return false;
	for (int lane = 0; lane < stretch->nlanes; lane++)
		if (stretch->passed[lane] < other->passed[lane])
			return false;
	return true;
}

/* Makes one of two that meet in every lane. */
static bool
absorb(ObxFormerLanes *stretch, const ObxFormerLanes *other)
{
	if (stretch->replayed != other->replayed || !obx_former_lanes_divide_alike(stretch, other))
		return false;
	for (int lane = 0; lane < stretch->nlanes; lane++)
		if (stretch->passed[lane] < other->first - 1 ||
			other->passed[lane] < stretch->first - 1)
			return false;

	stretch->first = Min(stretch->first, other->first);
	for (int lane = 0; lane < stretch->nlanes; lane++)
		stretch->passed[lane] = Max(stretch->passed[lane], other->passed[lane]);
	find_last(stretch);
	return true;
}

List *
obx_former_lanes_add(List *history, ObxFormerLanes *stretch)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (stretch->last < stretch->first)
		return history;
	foreach(lc, history)
	{
		ObxFormerLanes *former = lfirst(lc);

		if (covers(former, stretch))
			return history;
		if (!covers(stretch, former) && !absorb(stretch, former))
			result = lappend(result, former);
	}
	return lappend(result, stretch);
}

List *
obx_former_lanes_replay(List *history)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, history)
	{
		ObxFormerLanes *stretch = lfirst(lc);

		stretch->replayed = true;
		result = obx_former_lanes_add(result, stretch);
	}
	return result;
}

List *
obx_former_lanes_trim(List *history, int64 passed_by_all, int64 oldest)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, history)
	{
		ObxFormerLanes *stretch = lfirst(lc);

		if (stretch->last >= (stretch->replayed ? oldest : passed_by_all + 1))
			result = lappend(result, stretch);
	}
	return result;
}

/* ---- events ---- */

/* The event's lane at that time. */
static int
lane_then(const ObxFormerLanes *stretch, int64 id, ObxOrderKey key)
{
	key.has = key.has && stretch->keyed;
	return obx_lane_of_event(stretch->nlanes, key, id);
}

bool
obx_former_lanes_has(const List *history, bool replayed, int64 position, int64 id, ObxOrderKey key)
{
	ListCell   *lc;

	foreach(lc, history)
	{
		const ObxFormerLanes *stretch = lfirst(lc);

		if (stretch->replayed == replayed && position >= stretch->first &&
			position <= stretch->last &&
			position <= stretch->passed[lane_then(stretch, id, key)])
			return true;
	}
	return false;
}
