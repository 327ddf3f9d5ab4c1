/*
 * The roster: which lanes of a database are in the queue.
 *
 * The sequencer makes them what the subscriptions ask for.  Where there are
 * more lanes than places, they take turns: those with nothing to do are taken
 * out and others put in, which are looked at.  A database that holds more than
 * its share gives places up while others find none.
 *
 * A lane that is taken out forgets when it is due; it is looked at when it comes
 * again.  All under obx_slots->lock, where nothing is allocated or reported.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "worker/queue.h"
#include "worker/refusal.h"

/* So long after there was a lane too many, databases keep to their shares. */
#define SHORT_MEMORY (30 * USECS_PER_SEC)

static int
compare_wanted(const void *left, const void *right)
{
	const ObxWantedLane *a = left;
	const ObxWantedLane *b = right;

	if (a->subscription != b->subscription)
		return a->subscription < b->subscription ? -1 : 1;
	return a->lane < b->lane ? -1 : a->lane > b->lane;
}

/* The dispatcher that serves the lane, or NULL. */
static ObxSlot *
find_server(const ObxQueuedLane *lane)
{
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->state == OBX_SLOT_BUSY &&
			slot->database == lane->database && slot->subscription == lane->subscription &&
			slot->lane == lane->lane)
			return slot;
	}
	return NULL;
}

/*
 * The subscription is paused or gone: whoever serves the lane leaves, and is
 * made to if it is in the middle of a handler (pool.c).
 */
static void
end_lane(ObxQueuedLane *lane)
{
	ObxSlot    *slot = lane->state == OBX_QUEUED_RUNNING ? find_server(lane) : NULL;

	ObxAssertLocked();
	if (slot != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_NOW);
}

/* Drops what is not wanted any more and marks in "present" what is there. */
static void
remove_lanes(const ObxWantedLane *wanted, int count, bool *present, bool afresh)
{
	ObxAssertLocked();
	for (int i = 0; i < obx_queue->used; i++)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[i];
		ObxWantedLane key = {.subscription = lane->subscription,.lane = lane->lane};
		const ObxWantedLane *match;

		if (lane->state == OBX_QUEUED_FREE || lane->database != MyDatabaseId)
			continue;

		match = bsearch(&key, wanted, count, sizeof(ObxWantedLane), compare_wanted);
		if (match == NULL || match->owner != lane->owner)
		{
			if (match == NULL)
				end_lane(lane);
			obx_queue_set_state(lane, OBX_QUEUED_FREE);
			lane->generation++;
			continue;
		}

		present[match - wanted] = true;
		if (afresh)
		{
			lane->seen = -1;
			lane->not_before = 0;
			lane->failures = 0;
			lane->again = lane->state == OBX_QUEUED_RUNNING;
		}
	}
	while (obx_queue->used > 0 &&
		   obx_queue->lanes[obx_queue->used - 1].state == OBX_QUEUED_FREE)
		obx_queue->used--;
}

bool
obx_queue_is_short(void)
{
	TimestampTz now = obx_clock_now();

	ObxAssertShared();
	return obx_queue->short_at > now - SHORT_MEMORY && obx_queue->short_at <= now;
}

/* How many lanes our database may have while there are too many.  Locked. */
static int
find_share(void)
{
	int			databases = 1;

	ObxAssertShared();
	for (int i = 0; i < obx_slots->nslots; i++)
		if (obx_slots->slots[i].role == OBX_ROLE_SEQUENCER &&
			obx_slot_is_live(&obx_slots->slots[i]) && &obx_slots->slots[i] != obx_own_slot)
			databases++;
	return OBX_QUEUE_SIZE / databases;
}

/* How many lanes our database has.  Locked. */
static int
count_lanes(void)
{
	int			count = 0;

	ObxAssertShared();
	for (int i = 0; i < obx_queue->used; i++)
		if (obx_queue->lanes[i].state != OBX_QUEUED_FREE &&
			obx_queue->lanes[i].database == MyDatabaseId)
			count++;
	return count;
}

/*
 * Takes up to that many of our lanes out, to come again later: those with
 * nothing to do, and then, if asked, those that are READY.  Locked.
 */
static void
take_out(const ObxWantedLane *wanted, int count, bool *present, int excess, bool ready)
{
	ObxAssertLocked();
	for (int pass = 0; pass < (ready ? 2 : 1); pass++)
	{
		for (int i = obx_queue->used - 1; i >= 0 && excess > 0; i--)
		{
			ObxQueuedLane *lane = &obx_queue->lanes[i];
			ObxWantedLane key = {.subscription = lane->subscription,.lane = lane->lane};
			const ObxWantedLane *match;

			if (lane->database != MyDatabaseId ||
				lane->state != (pass == 0 ? OBX_QUEUED_IDLE : OBX_QUEUED_READY) ||
				(pass == 0 && lane->seen < 0 && obx_refusal_until(lane->owner) == 0))
				continue;
			match = bsearch(&key, wanted, count, sizeof(ObxWantedLane), compare_wanted);
			if (match != NULL)
				present[match - wanted] = false;
			obx_queue_set_state(lane, OBX_QUEUED_FREE);
			lane->generation++;
			excess--;
		}
	}
}

static void
put_in(ObxQueuedLane *lane, const ObxWantedLane *wanted)
{
	uint32		generation = lane->generation + 1;

	ObxAssertLocked();
	memset(lane, 0, sizeof(ObxQueuedLane));
	lane->generation = generation;
	obx_queue_set_state(lane, OBX_QUEUED_IDLE);
	lane->database = MyDatabaseId;
	lane->owner = wanted->owner;
	lane->subscription = wanted->subscription;
	lane->lane = wanted->lane;
	lane->seen = -1;
	lane->due = DT_NOEND;
	lane->batch_size = wanted->batch_size;
	lane->careful = obx_queue->unclean ? 1 : 0;
	lane->light = true;			/* until we know better */
	strlcpy(lane->name, wanted->name, NAMEDATALEN);
}

/*
 * Gives places to lanes without one, as many as there are, beginning behind the
 * last that got one.  Returns how many have none.  Locked.
 */
static int
fill_places(const ObxWantedLane *wanted, int count, bool *present, int room)
{
	static int	next = 0;
	int			start = count > 0 ? next % count : 0;
	int			place = 0;
	int			missing = 0;

	ObxAssertLocked();
	for (int i = 0; i < count; i++)
	{
		int			index = (start + i) % count;

		if (present[index])
			continue;
		while (room > 0 && place < OBX_QUEUE_SIZE &&
			   obx_queue->lanes[place].state != OBX_QUEUED_FREE)
			place++;
		if (room <= 0 || place == OBX_QUEUE_SIZE)
		{
			missing++;
			continue;
		}
		put_in(&obx_queue->lanes[place], &wanted[index]);
		obx_queue->used = Max(obx_queue->used, place + 1);
		next = index + 1;
		room--;
	}
	return missing;
}

int
obx_queue_reconcile(const ObxWantedLane *wanted, int count, bool afresh)
{
	static int	missing = 0;
	bool	   *present = MemoryContextAllocExtended(CurrentMemoryContext,
													 Max(count, 1) * sizeof(bool),
													 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	TimestampTz now = obx_clock_now();
	int			room = OBX_QUEUE_SIZE;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	remove_lanes(wanted, count, present, afresh);
	if (missing > 0)
		take_out(wanted, count, present, missing, false);
	if (obx_queue_is_short())
	{
		int			share = find_share();
		int			used = count_lanes();

		take_out(wanted, count, present, used - share, true);
		room = Max(share - count_lanes(), 0);
	}
	missing = fill_places(wanted, count, present, room);
	if (missing > 0)
		obx_queue->short_at = now;
	LWLockRelease(obx_slots->lock);

	pfree(present);
	return missing;
}
