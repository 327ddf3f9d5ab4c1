/*
 * The pool: how many dispatchers a database has, and for which owners.
 *
 * Looked at under the lock, owner by owner: READY lanes against dispatchers.
 * An idle dispatcher is woken; else one is started while max_workers allows;
 * else an idle one of an owner with nothing to do leaves; else, for an owner
 * who has none at all, a busy one leaves after its turn.  So owners take turns
 * whatever max_workers is.  In the same way databases take turns when the
 * server's worker processes run out: those who found none queue up by the time
 * since when, and nobody starts a worker past one who waits longer.
 *
 * An owner that cannot connect is asked about before a process is started for
 * nothing; its lanes are not READY until it is tried again (refusal.c).
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/settings.h"
#include "worker/pool.h"
#include "worker/process.h"
#include "worker/queue.h"
#include "worker/refusal.h"
#include "worker/room.h"

#define MAX_OWNERS 128
#define FIRST_ROOM_DELAY OBX_MS(10)
#define LONGEST_ROOM_DELAY OBX_MS(5000)
#define LEAVE_PATIENCE OBX_MS(250)	/* then who was asked to leave at once is
									 * ended */

/* One owner's need and means. */
typedef struct Owner
{
	Oid			owner;
	int			ready;			/* lanes that wait */
	TimestampTz oldest;			/* since when the first of them */
	int			busy;
	int			idle;
	int			starting;
} Owner;

typedef struct Pool
{
	int			nowners;
	int			size;			/* dispatchers, with those about to leave */
	int			leaving;
	Owner		owners[MAX_OWNERS];
} Pool;

static int64 room_delay = 0;
static TimestampTz room_at = 0;
static uint32 room_openings = 0;
static bool room_reported = false;

/* The owner in the pool that waits since later, of those the last; or NULL. */
static Owner *
find_later_owner(Pool *pool, TimestampTz waiting_since)
{
	Owner	   *last = NULL;

	for (int i = 0; i < pool->nowners; i++)
		if (pool->owners[i].oldest > (last != NULL ? last->oldest : waiting_since))
			last = &pool->owners[i];
	return last;
}

/*
 * An owner's place in the pool; NULL if there is none, since all are taken by
 * others that wait longer.  DT_NOEND: it does not wait.
 */
static Owner *
find_owner(Pool *pool, Oid oid, TimestampTz waiting_since)
{
	Owner	   *owner = NULL;

	for (int i = 0; i < pool->nowners; i++)
		if (pool->owners[i].owner == oid)
			return &pool->owners[i];
	if (pool->nowners == MAX_OWNERS && waiting_since < DT_NOEND)
		owner = find_later_owner(pool, waiting_since);
	else if (pool->nowners < MAX_OWNERS)
		owner = &pool->owners[pool->nowners++];
	if (owner == NULL)
		return NULL;			/* its turn comes when others are served */
	memset(owner, 0, sizeof(Owner));
	owner->owner = oid;
	return owner;
}

/* Counts lanes and dispatchers of our database, and wakes the idle.  Locked. */
static void
survey_pool(Pool *pool, TimestampTz now, TimestampTz *next)
{
	ObxAssertLocked();
	pool->nowners = pool->size = pool->leaving = 0;

	for (int i = 0; i < obx_queue->used; i++)
	{
		const ObxQueuedLane *lane = &obx_queue->lanes[i];
		Owner	   *owner;
		TimestampTz left_until;

		if (lane->state != OBX_QUEUED_READY || lane->database != MyDatabaseId ||
			(owner = find_owner(pool, lane->owner, lane->ready_since)) == NULL)
			continue;
		left_until = obx_queue_left_until(lane, NULL, now);
		if (left_until != 0)
		{
			*next = Min(*next, left_until);
			continue;
		}
		owner->oldest = owner->ready == 0 ? lane->ready_since :
			Min(owner->oldest, lane->ready_since);
		owner->ready++;
	}

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		Owner	   *owner;

		if (slot->role != OBX_ROLE_DISPATCHER || slot->database != MyDatabaseId)
			continue;
		if (obx_slot_is_live(slot))
		{
			pool->size++;
			if (slot->leave != OBX_LEAVE_NOT)
			{
				pool->leaving++;
				continue;
			}
		}
		if ((owner = find_owner(pool, slot->owner, DT_NOEND)) == NULL)
			continue;

		if (slot->state == OBX_SLOT_STARTING)
			owner->starting++;
		else if (slot->state == OBX_SLOT_BUSY && slot->subscription != 0)
			owner->busy++;
		else if (slot->state == OBX_SLOT_BUSY)
			owner->idle++;		/* between two lanes, about to look for one */
		else if (slot->state == OBX_SLOT_IDLE)
		{
			if (owner->idle++ < owner->ready)
				obx_slot_wake(slot);
		}
	}
}

/* How many more dispatchers the owner could use. */
static int
need_of(const Owner *owner)
{
	return Max(owner->ready - owner->idle - owner->starting, 0);
}

/*
 * The owner that gets the next dispatcher: first owners without one, then the
 * one that waits longest.
 */
static Owner *
find_neediest(Pool *pool)
{
	Owner	   *best = NULL;
	bool		best_unserved = false;

	for (int i = 0; i < pool->nowners; i++)
	{
		Owner	   *owner = &pool->owners[i];
		bool		unserved = owner->busy + owner->idle + owner->starting == 0;

		if (need_of(owner) == 0)
			continue;
		if (best == NULL || (unserved && !best_unserved) ||
			(unserved == best_unserved && owner->oldest < best->oldest))
		{
			best = owner;
			best_unserved = unserved;
		}
	}
	return best;
}

/*
 * The dispatcher of our database that can best be spared: an idle one whose
 * owner has nothing to do; else, if "busy" ones may be taken, of the owner who
 * has most the one that is there longest.  Locked.
 */
static ObxSlot *
find_spare(Pool *pool, bool busy)
{
	ObxSlot    *best = NULL;
	int			best_count = 0;

	ObxAssertShared();
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		Owner	   *owner;

		if (slot->role != OBX_ROLE_DISPATCHER || slot->database != MyDatabaseId ||
			slot->leave != OBX_LEAVE_NOT ||
			(slot->state != OBX_SLOT_IDLE && slot->state != OBX_SLOT_BUSY) ||
			(owner = find_owner(pool, slot->owner, DT_NOEND)) == NULL)
			continue;
		if (slot->state == OBX_SLOT_IDLE && owner->ready == 0)
			return slot;
		if (busy && (best == NULL || owner->busy > best_count ||
					 (owner->busy == best_count && slot->attached_at < best->attached_at)))
		{
			best = slot;
			best_count = owner->busy;
		}
	}
	return best;
}

/* Has dispatchers leave where others need their place among "limit".  Locked. */
static void
dismiss_spare(Pool *pool, int limit)
{
	int			unserved = 0;
	int			short_handed = 0;
	int			wanted;

	ObxAssertLocked();
	for (int i = 0; i < pool->nowners; i++)
	{
		const Owner *owner = &pool->owners[i];

		if (need_of(owner) == 0)
			continue;
		if (owner->busy + owner->idle + owner->starting == 0)
			unserved++;
		else
			short_handed += need_of(owner);
	}

	/* max_workers may have been lowered */
	wanted = Max(pool->size - limit, 0) +
		(pool->size >= limit ? unserved + short_handed : 0);
	unserved += Max(pool->size - limit, 0);

	for (int i = pool->leaving; i < wanted; i++)
	{
		ObxSlot    *spare = find_spare(pool, i < unserved);

		if (spare == NULL)
			break;
		obx_slot_ask_to_leave(spare, OBX_LEAVE_TURN);
	}
}

/* Since when we want a process; our database may have waited for us before. */
static TimestampTz
waiting_since(TimestampTz now)
{
	if (obx_slot_own->starved_since != 0)
		return obx_slot_own->starved_since;
	return obx_slot_own->waits_since != 0 ? obx_slot_own->waits_since : now;
}

/* We found no worker process, or others are before us, who make room: waits. */
static void
wait_for_room(bool behind, TimestampTz now)
{
	room_delay = obx_backoff_next(room_delay, FIRST_ROOM_DELAY, LONGEST_ROOM_DELAY);
	room_at = now + room_delay;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_own->starved_since = waiting_since(now);
	obx_slot_own->starved_tried = now;
	if (!behind)
		obx_room_make(MyDatabaseId, obx_slot_own->starved_since, now);
	LWLockRelease(obx_slots->lock);

	if (!room_reported && room_delay == LONGEST_ROOM_DELAY)
	{
		room_reported = true;
		ereport(LOG,
				(errmsg("pg_outbox: no free background worker process for a dispatcher"),
				 errhint("Increase max_worker_processes, or lower outbox.max_workers.")));
	}
}

static void
end_starvation(void)
{
	room_delay = 0;
	room_at = 0;
	if (obx_slot_own->starved_since == 0 && obx_slot_own->waits_since == 0)
		return;
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_own->starved_since = obx_slot_own->waits_since = 0;
	LWLockRelease(obx_slots->lock);
}

/* No worker gets in as that owner: its lanes wait until it is tried again. */
static int
note_refused(Oid owner, TimestampTz now)
{
	int			times = obx_refusal_note(owner, now);

	obx_queue_withdraw(owner);
	return times;
}

/* obx_process_run's step: starts a dispatcher for *owner unless it is futile. */
static void
start_dispatcher(void *arg)
{
	Oid			owner = *(Oid *) arg;
	const char *obstacle = obx_refusal_find_obstacle(owner);
	TimestampTz now = obx_clock_now();
	int			times;

	CHECK_FOR_INTERRUPTS();
	if (obstacle == NULL)
	{
		if (obx_slot_start(OBX_ROLE_DISPATCHER, MyDatabaseId, owner, 0) < 0)
			wait_for_room(false, now);
		else
			end_starvation();
		return;
	}

	times = note_refused(owner, now);
	if (times == 1)
		ereport(LOG,
				(errmsg("pg_outbox: cannot run the subscriptions of role \"%s\"",
						GetUserNameFromId(owner, true) ? GetUserNameFromId(owner, true) :
						psprintf("%u", owner)),
				 errdetail("%s", obstacle),
				 errhint("Workers connect as the owner of a subscription. Give the role what it lacks, or let another role subscribe.")));
}

/* Learns from dispatchers that have ended, and from others that could connect. Not locked. */
static void
collect_exits(TimestampTz now)
{
	Oid		   *refused = palloc(obx_slots->nslots * sizeof(Oid));
	Oid		   *admitted = palloc(obx_slots->nslots * sizeof(Oid));
	int			nrefused = 0;
	int			nadmitted = 0;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role != OBX_ROLE_DISPATCHER || slot->database != MyDatabaseId)
			continue;
		if (slot->state == OBX_SLOT_EXITED)
		{
			if (slot->exit == OBX_EXIT_REFUSED)
				refused[nrefused++] = slot->owner;
			obx_slot_free(slot);
		}
		else if (obx_slot_is_live(slot) && slot->connected)
			admitted[nadmitted++] = slot->owner;
	}
	LWLockRelease(obx_slots->lock);

	for (int i = 0; i < nrefused; i++)
		(void) note_refused(refused[i], now);
	for (int i = 0; i < nadmitted; i++)
		obx_refusal_forget(admitted[i]);
	pfree(refused);
	pfree(admitted);
}

/* True if a dispatcher should and may be started now; *owner is the one it is for. */
static bool
find_start(TimestampTz now, Oid *owner, TimestampTz *next)
{
	static Pool pool;
	Owner	   *neediest;
	bool		start = false;
	bool		behind = false;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	survey_pool(&pool, now, next);
	neediest = find_neediest(&pool);
	if (neediest != NULL && pool.size < obx_max_workers)
	{
		*owner = neediest->owner;
		start = true;
		behind = obx_room_is_behind(waiting_since(now), now);
	}
	else
		dismiss_spare(&pool, obx_max_workers);
	if (start && obx_slot_own->starved_since != 0)
		dismiss_spare(&pool, Min(obx_max_workers, pool.size));
	if (obx_slots->openings != room_openings)
	{
		/* a process may be free, or will be in a moment */
		room_openings = obx_slots->openings;
		room_delay = 0;
		room_at = 0;
	}
	LWLockRelease(obx_slots->lock);

	if (!start)
	{
		if (neediest == NULL)
			end_starvation();
		return false;
	}
	if (room_at > now || behind)
	{
		if (room_at <= now)
			wait_for_room(behind, now);
		*next = Min(*next, room_at);
		return false;
	}
	return true;
}

/*
 * Ends those who were asked to leave at once and are still in the middle of a
 * handler; its transaction never happened.  Returns when to look again.
 */
static TimestampTz
end_stubborn(TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->role != OBX_ROLE_DISPATCHER || slot->database != MyDatabaseId ||
			slot->leave != OBX_LEAVE_NOW || slot->pid == 0)
			continue;
		/* under the lock the process is ours */
		if (slot->leave_since <= now - LEAVE_PATIENCE)
			kill(slot->pid, SIGTERM);
		next = Min(next, Max(slot->leave_since, now) + LEAVE_PATIENCE);
	}
	LWLockRelease(obx_slots->lock);
	return next;
}

TimestampTz
obx_pool_adjust(TimestampTz now)
{
	static ObxFailures failures = {.what = "could not start a dispatcher"};
	TimestampTz next = DT_NOEND;
	Oid			owner;

	obx_slot_reap();
	collect_exits(now);
	next = end_stubborn(now);

	if (failures.retry_at > now || obx_slots->dispatch_from > now)
		return Min(next, Max(failures.retry_at, obx_slots->dispatch_from));
	while (find_start(now, &owner, &next))
	{
		if (!obx_process_run(start_dispatcher, &owner, &failures))
			return Min(next, failures.retry_at);
	}
	return next;
}

void
obx_pool_take_over(void)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->database == MyDatabaseId &&
			slot->state == OBX_SLOT_STARTING)
			obx_slot_free(slot);
	}
	LWLockRelease(obx_slots->lock);
}

void
obx_pool_dismiss(void)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->database == MyDatabaseId)
			obx_slot_ask_to_leave(slot, OBX_LEAVE_NOW);
	}
	LWLockRelease(obx_slots->lock);
}
