/*
 * The queue: the lanes of all databases, and which of them wait for a dispatcher.
 *
 * The sequencer of a database adds and removes its lanes and makes them READY;
 * dispatchers claim and release them.  A lane may vanish while it is RUNNING
 * (paused, dropped, the sequencer gone): its place gets a new generation, and
 * what its dispatcher then writes back is dropped.
 *
 * Whether there is something to do is told by heads, not by positions: a lane
 * that has been looked at under some head needs no look until the head moves
 * or its time has come, wherever its position stands (it may be blocked).
 *
 * All under obx_slots->lock, where nothing is allocated or reported.
 */
#include "postgres.h"

#include "base/backoff.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/shmem.h"
#include "worker/queue.h"
#include "worker/refusal.h"
#include "worker/suspect.h"

/* Waits after failures of the infrastructure, and after meeting someone else. */
#define FIRST_DELAY OBX_MS(1000)
#define LONGEST_DELAY OBX_MS(30000)
#define BROKEN_LONGEST OBX_MS(5000)
#define LOCKED_DELAY OBX_MS(50)
#define LOCKED_LONGEST OBX_MS(1000)

/* So long a cheap lane waits before one more dispatcher may take it. */
#define CHEAP_WAIT (50 * INT64CONST(1000))

ObxQueue   *obx_queue = NULL;

/* The lane that this dispatcher has claimed; index -1 for none. */
static ObxLaneClaim current_claim = {.index = -1};

static void initialize_queue(void *region, LWLockPadded *locks);

static ObxRegion queue_region = {
	.name = "pg_outbox queue",
	.size = sizeof(ObxQueue),
	.address = (void **) &obx_queue,
	.initialize = initialize_queue
};

/*
 * Had the server been shut down?  If not, a handler may have brought it down.
 * In one postmaster's life, shared memory is initialized again only after a
 * crash; then suspect.h knows what was under way.
 */
static bool
is_clean_start(void)
{
	static bool started = false;
	bool		crc_is_ok;
	ControlFileData *control;
	bool		clean;

	if (started)
		return true;
	started = true;
	control = get_controlfile(DataDir, &crc_is_ok);
	clean = crc_is_ok && (control->state == DB_SHUTDOWNED ||
						  control->state == DB_SHUTDOWNED_IN_RECOVERY);
	pfree(control);
	return clean;
}

static void
initialize_queue(void *region, LWLockPadded *locks)
{
	/* zeroed memory is all FREE */
	obx_queue->unclean = !is_clean_start();
}

void
obx_queue_set_state(ObxQueuedLane *lane, ObxQueuedState state)
{
#ifdef USE_ASSERT_CHECKING
	static const uint8 origins[] = {
		[OBX_QUEUED_FREE] = 1 << OBX_QUEUED_IDLE | 1 << OBX_QUEUED_READY | 1 << OBX_QUEUED_RUNNING,
		[OBX_QUEUED_IDLE] = 1 << OBX_QUEUED_FREE | 1 << OBX_QUEUED_READY | 1 << OBX_QUEUED_RUNNING,
		[OBX_QUEUED_READY] = 1 << OBX_QUEUED_IDLE | 1 << OBX_QUEUED_RUNNING,
		[OBX_QUEUED_RUNNING] = 1 << OBX_QUEUED_READY
	};
#endif

	ObxAssertLocked();
	Assert(origins[state] & 1 << lane->state);
	lane->state = state;
}

/* Is it one that will soon look for a cheap lane? */
static bool
may_take_cheap(const ObxSlot *slot, TimestampTz now)
{
	return slot->leave == OBX_LEAVE_NOT &&
		(slot->state == OBX_SLOT_STARTING || slot->state == OBX_SLOT_IDLE ||
		 (slot->state == OBX_SLOT_BUSY &&
		  (slot->subscription == 0 ||
		   (slot->cheap && slot->claimed_at > now - CHEAP_WAIT))));
}

/* The first dispatcher of the owner that is there for cheap lanes, or NULL. */
static const ObxSlot *
find_cheap_slot(Oid database, Oid owner, TimestampTz now)
{
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->database == database &&
			slot->owner == owner && may_take_cheap(slot, now))
			return slot;
	}
	return NULL;
}

/* Readies a lane; a cheap one wakes whom it is left to. */
static void
make_ready(ObxQueuedLane *lane, TimestampTz now)
{
	const ObxSlot *slot;

	ObxAssertLocked();
	obx_queue_set_state(lane, OBX_QUEUED_READY);
	lane->ready_since = now;
	slot = lane->cheap ? find_cheap_slot(lane->database, lane->owner, now) : NULL;
	if (slot != NULL && slot->state == OBX_SLOT_IDLE)
		obx_slot_wake(slot);
}

/*
 * The worker that had the lane has ended.  If it was not asked to, its end may
 * come from the lane, which therefore waits, the longer the more often.
 */
static void
abandon_lanes(void)
{
	TimestampTz now = obx_clock_now();

	ObxAssertLocked();
	if (obx_slot_own->role == OBX_ROLE_SEQUENCER)
	{
		/*
		 * the next one begins from the start; passes that still run do no
		 * harm
		 */
		for (int i = 0; i < OBX_REFUSED; i++)
			if (obx_slots->refused[i].database == obx_slot_own->database)
				memset(&obx_slots->refused[i], 0, sizeof(ObxRefused));
		for (int i = 0; i < obx_queue->used; i++)
		{
			ObxQueuedLane *lane = &obx_queue->lanes[i];

			if (lane->state != OBX_QUEUED_FREE && lane->database == obx_slot_own->database)
			{
				if (lane->state != OBX_QUEUED_IDLE)
					obx_slot_own->needed_at = now;
				obx_queue_set_state(lane, OBX_QUEUED_FREE);
				lane->generation++;
			}
		}
	}
	else if (current_claim.index >= 0)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[current_claim.index];

		if (obx_slot_own->leave == OBX_LEAVE_NOT)
			obx_suspect_note(obx_slot_own);
		if (lane->generation != current_claim.generation)
			return;
		if (obx_slot_own->leave == OBX_LEAVE_NOT)
		{
			lane->failures++;
			lane->not_before = lane->due =
				now + obx_backoff_after(lane->failures, FIRST_DELAY, LONGEST_DELAY);
			obx_queue_set_state(lane, OBX_QUEUED_IDLE);
		}
		else
			make_ready(lane, now);
	}
}

void
obx_queue_init(void)
{
	obx_shmem_register(&queue_region);
	obx_slot_at_exit = abandon_lanes;
}

void
obx_queue_withdraw(Oid owner)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_queue->used; i++)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[i];

		if (lane->state == OBX_QUEUED_READY && lane->database == MyDatabaseId &&
			lane->owner == owner)
		{
			obx_queue_set_state(lane, OBX_QUEUED_IDLE);
			lane->seen = -1;
		}
	}
	LWLockRelease(obx_slots->lock);
}

TimestampTz
obx_queue_refresh(int64 head, TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	TimestampTz refused_until;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_own->head = head;
	for (int i = 0; i < obx_queue->used; i++)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[i];

		if (lane->state != OBX_QUEUED_IDLE || lane->database != MyDatabaseId)
			continue;
		refused_until = obx_refusal_until(lane->owner);
		if (Max(lane->not_before, refused_until) > now)
			next = Min(next, Max(lane->not_before, refused_until));
		else if (lane->seen < head || lane->due <= now)
			make_ready(lane, now);
		else
			next = Min(next, lane->due);
	}
	LWLockRelease(obx_slots->lock);
	return next;
}

TimestampTz
obx_queue_left_until(const ObxQueuedLane *lane, const ObxSlot *own, TimestampTz now)
{
	int64		wait = 0;

	ObxAssertShared();
	if (!lane->cheap)
		return 0;
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot == own)
			break;
		if (slot->role == OBX_ROLE_DISPATCHER && slot->database == lane->database &&
			slot->owner == lane->owner && may_take_cheap(slot, now))
			wait += CHEAP_WAIT;
	}

	/*
	 * A lane may have become ready after "now" was taken; but not by much, if
	 * the clock was not set back.
	 */
	if (lane->ready_since <= now - wait || lane->ready_since > now + CHEAP_WAIT)
		return 0;
	return lane->ready_since + wait;
}

bool
obx_queue_claim(ObxLaneClaim *claim, TimestampTz *look_at)
{
	ObxQueuedLane *best = NULL;
	ObxSlot    *own = obx_slot_own;
	const ObxSlot *sequencer;
	const ObxSuspect *suspect;
	TimestampTz now = obx_clock_now();
	TimestampTz left_until;
	int			waiting = 0;

	*look_at = DT_NOEND;
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_queue->used; i++)
	{
		ObxQueuedLane *lane = &obx_queue->lanes[i];

		if (lane->state != OBX_QUEUED_READY || lane->database != own->database ||
			lane->owner != own->owner)
			continue;
		left_until = obx_queue_left_until(lane, own, now);
		if (left_until != 0)
			*look_at = Min(*look_at, left_until);
		else if (best == NULL || lane->ready_since < best->ready_since)
			best = lane;
		waiting++;
	}

	if (best != NULL)
	{
		sequencer = obx_slot_find_sequencer(own->database);
		obx_queue_set_state(best, OBX_QUEUED_RUNNING);
		claim->index = best - obx_queue->lanes;
		claim->generation = best->generation;
		claim->subscription = best->subscription;
		claim->lane = best->lane;
		claim->head = sequencer != NULL ? sequencer->head : -1;
		claim->shared = waiting > 1;
		suspect = obx_suspect_find(own->database, best->subscription, best->lane);
		claim->suspect = suspect != NULL ? suspect->position : 0;
		claim->careful = suspect != NULL && suspect->careful > 0 ? suspect->careful : best->careful;
		strlcpy(claim->name, best->name, NAMEDATALEN);
		current_claim = *claim;
		own->subscription = best->subscription;
		own->lane = best->lane;
		own->cheap = best->cheap;
		own->claimed_at = now;
		own->under_way = 0;
	}
	if (own->state != (best != NULL ? OBX_SLOT_BUSY : OBX_SLOT_IDLE))
	{
		obx_slot_set_state(own, best != NULL ? OBX_SLOT_BUSY : OBX_SLOT_IDLE);
		own->since = now;
		if (best == NULL)
			obx_slot_tell_of_opening();
	}
	LWLockRelease(obx_slots->lock);
	return best != NULL;
}

/* The result of a pass decides when its lane is looked at again. */
static void
reschedule_lane(ObxQueuedLane *lane, const ObxLaneClaim *claim, const ObxPassResult *result,
				int64 head, TimestampTz now)
{
	ObxAssertLocked();
	obx_queue_set_state(lane, OBX_QUEUED_IDLE);
	switch (result->outcome)
	{
		case OBX_PASS_MORE:
			lane->failures = 0;
			lane->due = obx_clock_from_time(result->due);
			make_ready(lane, now);	/* at the end of the queue */
			break;
		case OBX_PASS_IDLE:
			lane->failures = 0;
			lane->due = obx_clock_from_time(result->due);
			lane->seen = claim->head;
			if (head > lane->seen || lane->due <= now || lane->again)
				make_ready(lane, now);
			break;
		case OBX_PASS_LOCKED:
			lane->failures++;
			lane->seen = -1;
			lane->not_before = lane->due =
				now + obx_backoff_after(lane->failures, LOCKED_DELAY, LOCKED_LONGEST);
			break;
		case OBX_PASS_STOPPED:
		case OBX_PASS_BROKEN:
		case OBX_PASS_BACKOFF:
			lane->failures++;
			lane->seen = -1;

			/*
			 * a repair rings no bell, so one that is broken is looked at
			 * often
			 */
			lane->not_before = lane->due =
				now + obx_backoff_after(lane->failures, FIRST_DELAY,
										result->outcome == OBX_PASS_BROKEN ?
										BROKEN_LONGEST : LONGEST_DELAY);
			if (lane->again)
				make_ready(lane, now);
			break;
	}
	lane->again = false;
}

/*
 * A lane that was taken for a cheap one has work to do: it is not left to one
 * dispatcher any more, so another one is woken for it, or had started.
 */
static void
wake_for_work(const ObxQueuedLane *lane, const ObxSlot *sequencer)
{
	ObxAssertLocked();
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->state == OBX_SLOT_IDLE &&
			slot->database == lane->database && slot->owner == lane->owner)
		{
			obx_slot_wake(slot);
			return;
		}
	}
	if (sequencer != NULL)
		obx_slot_wake(sequencer);
}

void
obx_queue_release(const ObxLaneClaim *claim, const ObxPassResult *result, bool cheap)
{
	ObxQueuedLane *lane = &obx_queue->lanes[claim->index];
	TimestampTz now = obx_clock_now();
	ObxSlot    *sequencer;
	ObxSuspect *suspect;
	bool		was_cheap;
	bool		is_served = result->outcome == OBX_PASS_IDLE || result->outcome == OBX_PASS_MORE;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	current_claim.index = -1;
	obx_slot_own->subscription = 0;
	obx_slot_own->under_way = 0;
	suspect = obx_suspect_find(obx_slot_own->database, claim->subscription, claim->lane);
	if (suspect != NULL && is_served)
		obx_suspect_clear(suspect, result->handled, result->cleared, lane->batch_size);
	sequencer = obx_slot_find_sequencer(obx_slot_own->database);
	if (sequencer != NULL && is_served)
		sequencer->progress++;

	if (lane->generation == claim->generation && lane->state == OBX_QUEUED_RUNNING)
	{
		if (lane->careful > 0 && is_served && result->handled > 0)
			lane->careful = obx_suspect_widen(lane->careful, lane->batch_size);
		was_cheap = lane->cheap;
		lane->cheap = cheap && result->outcome == OBX_PASS_MORE;
		reschedule_lane(lane, claim, result, sequencer != NULL ? sequencer->head : claim->head, now);
		if (was_cheap && !lane->cheap && lane->state == OBX_QUEUED_READY)
			wake_for_work(lane, sequencer);
		if (lane->state == OBX_QUEUED_IDLE && sequencer != NULL &&
			lane->due < sequencer->wakes_at)
			obx_slot_wake(sequencer);
	}
	LWLockRelease(obx_slots->lock);
}

bool
obx_queue_is_contended(void)
{
	const ObxSlot *own = obx_slot_own;
	bool		contended = false;
	bool		helped = false;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	for (int i = 0; i < obx_queue->used && !contended; i++)
	{
		const ObxQueuedLane *lane = &obx_queue->lanes[i];

		contended = lane->state == OBX_QUEUED_READY &&
			lane->database == own->database && lane->owner == own->owner;
	}
	for (int i = 0; contended && !helped && i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		helped = slot->role == OBX_ROLE_DISPATCHER &&
			slot->database == own->database && slot->owner == own->owner &&
			(slot->state == OBX_SLOT_IDLE || slot->state == OBX_SLOT_STARTING ||
			 (slot->state == OBX_SLOT_BUSY && slot->subscription == 0));
	}
	LWLockRelease(obx_slots->lock);
	return contended && !helped;
}
