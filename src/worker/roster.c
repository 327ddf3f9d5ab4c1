/*
 * The roster: which lanes of a database are in the queue.
 *
 * The sequencer makes them what the subscriptions ask for.  Where there are
 * more lanes than places, they take turns: those with nothing to do are taken
 * out and others put in, which are looked at.  A database that holds more than
 * its share gives places up while others find none, and so does an owner among
 * those of its database.
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

/* The places of our database that an owner has. */
typedef struct OwnerShare
{
	Oid			owner;
	int			wanted;			/* lanes that it asks for */
	int			used;			/* those with a place */
	int			share;			/* how many may have one */
} OwnerShare;

typedef struct Shares
{
	int			count;
	OwnerShare *owners;			/* who asks for least comes first */
	int		   *owner_of;		/* of each wanted lane, the index in owners */
} Shares;

static int
compare_wanted(const void *left, const void *right)
{
	const ObxWantedLane *a = left;
	const ObxWantedLane *b = right;

	if (a->subscription != b->subscription)
		return a->subscription < b->subscription ? -1 : 1;
	return a->lane < b->lane ? -1 : a->lane > b->lane;
}

/* The wanted lane for a lane of our database in the queue; NULL if it is not wanted. */
static const ObxWantedLane *
find_wanted(const ObxQueuedLane *lane, const ObxWantedLane *wanted, int count)
{
	ObxWantedLane key = {.subscription = lane->subscription,.lane = lane->lane};

	if (lane->state == OBX_QUEUED_FREE || lane->database != MyDatabaseId)
		return NULL;
	return bsearch(&key, wanted, count, sizeof(ObxWantedLane), compare_wanted);
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

	if (slot != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_NOW);
}

/* Drops what is not wanted any more and marks in "present" what is there. */
static void
remove_lanes(const ObxWantedLane *wanted, int count, bool *present, bool afresh)
{
	for (int i = 0; i < obx_queue->used; i++)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[i];
		const ObxWantedLane *match;

		if (lane->state == OBX_QUEUED_FREE || lane->database != MyDatabaseId)
			continue;

		match = find_wanted(lane, wanted, count);
		if (match == NULL || match->owner != lane->owner)
		{
			if (match == NULL)
				end_lane(lane);
			lane->state = OBX_QUEUED_FREE;
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

	return obx_queue->short_at > now - SHORT_MEMORY && obx_queue->short_at <= now;
}

/* How many lanes our database may have while there are too many.  Locked. */
static int
find_share(void)
{
	int			databases = 1;

	for (int i = 0; i < obx_slots->nslots; i++)
		if (obx_slots->slots[i].role == OBX_ROLE_SEQUENCER &&
			obx_slot_is_live(&obx_slots->slots[i]) && &obx_slots->slots[i] != obx_slot_own)
			databases++;
	return OBX_QUEUE_SIZE / databases;
}

/* How many lanes our database has.  Locked. */
static int
count_lanes(void)
{
	int			count = 0;

	for (int i = 0; i < obx_queue->used; i++)
		if (obx_queue->lanes[i].state != OBX_QUEUED_FREE &&
			obx_queue->lanes[i].database == MyDatabaseId)
			count++;
	return count;
}

static int
compare_owners(const void *left, const void *right)
{
	const OwnerShare *a = left;
	const OwnerShare *b = right;

	return a->owner < b->owner ? -1 : a->owner > b->owner;
}

static int
compare_needs(const void *left, const void *right)
{
	const OwnerShare *a = left;
	const OwnerShare *b = right;

	return a->wanted != b->wanted ? (a->wanted < b->wanted ? -1 : 1) : compare_owners(a, b);
}

static int
compare_oids(const void *left, const void *right)
{
	Oid			a = *(const Oid *) left;
	Oid			b = *(const Oid *) right;

	return a < b ? -1 : a > b;
}

/* Lists the owners of the wanted lanes; each may have as many as it wants. */
static void
make_shares(const ObxWantedLane *wanted, int count, Shares *shares)
{
	Oid		   *owners = palloc(Max(count, 1) * sizeof(Oid));
	int		   *rank;

	for (int i = 0; i < count; i++)
		owners[i] = wanted[i].owner;
	qsort(owners, count, sizeof(Oid), compare_oids);
	shares->count = 0;
	shares->owners = palloc0(Max(count, 1) * sizeof(OwnerShare));
	for (int i = 0; i < count; i++)
	{
		if (i == 0 || owners[i] != owners[i - 1])
			shares->owners[shares->count++].owner = owners[i];
		shares->owners[shares->count - 1].wanted++;
	}
	for (int i = 0; i < shares->count; i++)
	{
		owners[i] = shares->owners[i].owner;
		shares->owners[i].share = shares->owners[i].wanted;
	}

	/* owners are found by their numbers, and divided among by their needs */
	qsort(shares->owners, shares->count, sizeof(OwnerShare), compare_needs);
	rank = palloc(Max(shares->count, 1) * sizeof(int));
	for (int i = 0; i < shares->count; i++)
		rank[(Oid *) bsearch(&shares->owners[i].owner, owners, shares->count, sizeof(Oid),
							 compare_oids) - owners] = i;
	shares->owner_of = palloc(Max(count, 1) * sizeof(int));
	for (int i = 0; i < count; i++)
		shares->owner_of[i] = i > 0 && wanted[i].owner == wanted[i - 1].owner ?
			shares->owner_of[i - 1] :
			rank[(Oid *) bsearch(&wanted[i].owner, owners, shares->count, sizeof(Oid),
								 compare_oids) - owners];
	pfree(rank);
	pfree(owners);
}

/* Divides places: who asks for less than others leaves the rest to them. */
static void
divide(Shares *shares, int places)
{
	for (int i = 0; i < shares->count; i++)
	{
		int			owners = shares->count - i;

		shares->owners[i].share = Min(shares->owners[i].wanted, (places + owners - 1) / owners);
		places -= shares->owners[i].share;
	}
}

/* Counts the places that our owners have.  Locked. */
static void
count_used(const ObxWantedLane *wanted, int count, Shares *shares)
{
	for (int i = 0; i < shares->count; i++)
		shares->owners[i].used = 0;
	for (int i = 0; i < obx_queue->used; i++)
	{
		const ObxWantedLane *match = find_wanted(&obx_queue->lanes[i], wanted, count);

		if (match != NULL)
			shares->owners[shares->owner_of[match - wanted]].used++;
	}
}

/* Its lane comes again later. */
static void
take_out(ObxQueuedLane *lane, const ObxWantedLane *wanted, const ObxWantedLane *match,
		 bool *present)
{
	if (match != NULL)
		present[match - wanted] = false;
	lane->state = OBX_QUEUED_FREE;
	lane->generation++;
}

/* Takes up to that many of our lanes out that have nothing to do.  Locked. */
static void
take_out_idle(const ObxWantedLane *wanted, int count, bool *present, int excess)
{
	for (int i = obx_queue->used - 1; i >= 0 && excess > 0; i--)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[i];

		if (lane->database != MyDatabaseId || lane->state != OBX_QUEUED_IDLE ||
			(lane->seen < 0 && obx_refusal_until(lane->owner) == 0))
			continue;
		take_out(lane, wanted, find_wanted(lane, wanted, count), present);
		excess--;
	}
}

/*
 * Takes lanes of owners out that have more places than their share: those with
 * nothing to do, and then those that are READY.  Locked.
 */
static void
take_out_excess(const ObxWantedLane *wanted, int count, bool *present, Shares *shares)
{
	static const ObxQueuedState states[] = {OBX_QUEUED_IDLE, OBX_QUEUED_READY};

	for (int pass = 0; pass < lengthof(states); pass++)
	{
		for (int i = obx_queue->used - 1; i >= 0; i--)
		{
			ObxQueuedLane *lane = &obx_queue->lanes[i];
			const ObxWantedLane *match;
			OwnerShare *owner;

			if (lane->state != states[pass] ||
				(match = find_wanted(lane, wanted, count)) == NULL)
				continue;
			owner = &shares->owners[shares->owner_of[match - wanted]];
			if (owner->used <= owner->share)
				continue;
			take_out(lane, wanted, match, present);
			owner->used--;
		}
	}
}

static void
put_in(ObxQueuedLane *lane, const ObxWantedLane *wanted)
{
	uint32		generation = lane->generation + 1;

	memset(lane, 0, sizeof(ObxQueuedLane));
	lane->generation = generation;
	lane->state = OBX_QUEUED_IDLE;
	lane->database = MyDatabaseId;
	lane->owner = wanted->owner;
	lane->subscription = wanted->subscription;
	lane->lane = wanted->lane;
	lane->seen = -1;
	lane->due = DT_NOEND;
	lane->batch_size = wanted->batch_size;
	lane->careful = obx_queue->unclean ? 1 : 0;
	lane->cheap = true;			/* until we know better */
	strlcpy(lane->name, wanted->name, NAMEDATALEN);
}

/*
 * Gives places to lanes without one, as many as there are, and to each owner its
 * share at most, beginning behind the last that got one.  Returns how many have
 * none.  Locked.
 */
static int
fill_places(const ObxWantedLane *wanted, int count, bool *present, Shares *shares, int room)
{
	static int	next = 0;
	int			start = count > 0 ? next % count : 0;
	int			place = 0;
	int			missing = 0;

	for (int i = 0; i < count; i++)
	{
		int			index = (start + i) % count;
		OwnerShare *owner = &shares->owners[shares->owner_of[index]];

		if (present[index])
			continue;
		while (room > 0 && place < OBX_QUEUE_SIZE &&
			   obx_queue->lanes[place].state != OBX_QUEUED_FREE)
			place++;
		if (room <= 0 || place == OBX_QUEUE_SIZE || owner->used >= owner->share)
		{
			missing++;
			continue;
		}
		put_in(&obx_queue->lanes[place], &wanted[index]);
		obx_queue->used = Max(obx_queue->used, place + 1);
		next = index + 1;
		owner->used++;
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
	Shares		shares;
	TimestampTz now = obx_clock_now();
	int			room = OBX_QUEUE_SIZE;

	make_shares(wanted, count, &shares);
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	remove_lanes(wanted, count, present, afresh);
	if (missing > 0)
		take_out_idle(wanted, count, present, missing);
	count_used(wanted, count, &shares);
	if (obx_queue_is_short())
	{
		int			share = find_share();

		divide(&shares, share);
		take_out_excess(wanted, count, present, &shares);
		room = Max(share - count_lanes(), 0);
	}
	missing = fill_places(wanted, count, present, &shares, room);
	if (missing > 0)
		obx_queue->short_at = now;
	LWLockRelease(obx_slots->lock);

	pfree(present);
	pfree(shares.owners);
	pfree(shares.owner_of);
	return missing;
}
