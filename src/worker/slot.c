/*
 * Slots: which worker processes there are, and what was asked of them.
 *
 * The array survives every single process: a restarted launcher or sequencer
 * finds in it the workers that its predecessor had started.  Only handles of
 * workers that have not come up yet are private, since they matter only until
 * then; a slot left in STARTING by a starter that died is freed by its
 * successor, and its generation turns the late worker away.
 *
 * Nothing is allocated or reported, and no other lock taken, under the lock.
 */
#include "postgres.h"

#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/doorbell.h"
#include "base/shmem.h"
#include "worker/slot.h"

/* More than can run: exited and refused ones stand for a while. */
#define EXTRA_SLOTS 64

/* Crashes that far apart have nothing to do with one another. */
#define CRASH_MEMORY (600 * USECS_PER_SEC)
#define LONGEST_CRASH_DELAY (30 * USECS_PER_SEC)

/* What a worker finds in bgw_extra. */
typedef struct Ticket
{
	int			index;
	uint32		generation;
} Ticket;

/* A worker that we asked for. */
typedef struct Started
{
	BackgroundWorkerHandle *handle; /* NULL: none */
	uint32		generation;
} Started;

ObxSlots   *obx_slots = NULL;
ObxSlot    *obx_slot_own = NULL;
void		(*obx_slot_at_exit) (void) = NULL;

static Started *started = NULL;

static void initialize_slots(void *region, LWLockPadded *locks);

static ObxRegion slot_region = {
	.name = "pg_outbox workers",
	.locks = 1,
	.address = (void **) &obx_slots,
	.initialize = initialize_slots
};

/*
 * In the postmaster, at its start and after every crash of the server.  The
 * crash may come from a handler, and no process remembers it.  So the
 * postmaster counts crashes, and the more there were, the longer dispatchers
 * wait: otherwise clients could never connect.
 */
static void
initialize_slots(void *region, LWLockPadded *locks)
{
	static int	starts = 0;
	static TimestampTz last_start = 0;
	ObxSlots   *new = region;
	TimestampTz now = obx_clock_now();

	new->lock = &locks[0].lock;
	new->nslots = max_worker_processes + EXTRA_SLOTS;

	starts = now - last_start < CRASH_MEMORY ? starts + 1 : 1;
	last_start = now;
	if (starts > 2)
		new->dispatch_from = now + obx_backoff_after(starts - 2, USECS_PER_SEC, LONGEST_CRASH_DELAY);
}

void
obx_slot_init(void)
{
	slot_region.size = offsetof(ObxSlots, slots) +
		(max_worker_processes + EXTRA_SLOTS) * sizeof(ObxSlot);
	obx_shmem_register(&slot_region);
}

bool
obx_slot_is_live(const ObxSlot *slot)
{
	return slot->state == OBX_SLOT_STARTING ||
		slot->state == OBX_SLOT_IDLE || slot->state == OBX_SLOT_BUSY;
}

ObxSlot *
obx_slot_find_sequencer(Oid database)
{
	ObxAssertShared();
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_SEQUENCER && slot->database == database &&
			obx_slot_is_live(slot))
			return slot;
	}
	return NULL;
}

void
obx_slot_tell_of_opening(void)
{
	ObxAssertLocked();
	obx_slots->openings++;
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_SEQUENCER && slot->starved_since != 0 &&
			obx_slot_is_live(slot))
			obx_slot_wake(slot);
	}
	if (obx_slots->launcher_starved_since != 0)
		obx_doorbell_call(InvalidOid);
}

void
obx_slot_wake(const ObxSlot *slot)
{
	ObxAssertShared();
	if (slot->pid != 0)
		SetLatch(&GetPGProcByNumber(slot->procno)->procLatch);
}

void
obx_slot_ask_to_leave(ObxSlot *slot, ObxLeave leave)
{
	ObxAssertLocked();
	if (!obx_slot_is_live(slot) || slot->leave >= leave)
		return;
	if (slot->leave == OBX_LEAVE_NOT || leave == OBX_LEAVE_NOW)
		slot->leave_since = obx_clock_now();
	slot->leave = leave;
	obx_slot_wake(slot);
}

void
obx_slot_set_starved(Oid database, TimestampTz since)
{
	ObxStarved *place = NULL;

	ObxAssertLocked();
	for (int i = 0; i < OBX_STARVED; i++)
	{
		ObxStarved *starved = &obx_slots->starved[i];

		if (starved->database == database)
		{
			place = starved;
			break;
		}
		if (place == NULL && !OidIsValid(starved->database))
			place = starved;
	}
	if (since == 0 && place != NULL && place->database == database)
		memset(place, 0, sizeof(ObxStarved));
	else if (since != 0 && place != NULL && place->database != database)
	{
		place->database = database;
		place->since = since;
	}
}

void
obx_slot_show_refused(Oid owner, TimestampTz since)
{
	ObxRefused *place = NULL;
	bool		known = false;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < OBX_REFUSED; i++)
	{
		ObxRefused *refused = &obx_slots->refused[i];

		if (refused->database == MyDatabaseId && (refused->owner == owner || !OidIsValid(owner)))
		{
			known = true;
			if (since == 0)
				memset(refused, 0, sizeof(ObxRefused));
		}
		else if (place == NULL && !OidIsValid(refused->database))
			place = refused;
	}
	if (since != 0 && !known && place != NULL)
	{
		place->database = MyDatabaseId;
		place->owner = owner;
		place->since = since;
	}
	LWLockRelease(obx_slots->lock);
}

TimestampTz
obx_slot_starved_since(Oid database)
{
	ObxAssertShared();
	for (int i = 0; i < OBX_STARVED; i++)
		if (obx_slots->starved[i].database == database)
			return obx_slots->starved[i].since;
	return 0;
}

bool
obx_slot_is_held(Oid database)
{
	ObxAssertShared();
	for (int i = 0; i < OBX_HOLDS; i++)
		if (obx_slots->holds[i].database == database)
			return true;
	return false;
}

void
obx_slot_set_state(ObxSlot *slot, ObxSlotState state)
{
#ifdef USE_ASSERT_CHECKING
	static const uint8 origins[] = {
		[OBX_SLOT_FREE] = 1 << OBX_SLOT_STARTING | 1 << OBX_SLOT_EXITED,
		[OBX_SLOT_STARTING] = 1 << OBX_SLOT_FREE,
		[OBX_SLOT_IDLE] = 1 << OBX_SLOT_BUSY,
		[OBX_SLOT_BUSY] = 1 << OBX_SLOT_STARTING | 1 << OBX_SLOT_IDLE | 1 << OBX_SLOT_BUSY,
		[OBX_SLOT_EXITED] = 1 << OBX_SLOT_STARTING | 1 << OBX_SLOT_IDLE | 1 << OBX_SLOT_BUSY
	};
#endif

	ObxAssertLocked();
	Assert(origins[state] & 1 << slot->state);
	slot->state = state;
}

void
obx_slot_free(ObxSlot *slot)
{
	ObxAssertLocked();
	slot->generation++;
	obx_slot_set_state(slot, OBX_SLOT_FREE);
	slot->pid = 0;
}

/* Claims a free slot for a worker to be started; -1 if all are taken. */
static int
claim_slot(ObxRole role, Oid database, Oid owner, TimestampTz waits_since)
{
	int			found = -1;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_slots->nslots && found < 0; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		uint32		generation = slot->generation + 1;

		if (slot->state != OBX_SLOT_FREE)
			continue;
		memset(slot, 0, sizeof(ObxSlot));
		slot->generation = generation;
		slot->role = role;
		obx_slot_set_state(slot, OBX_SLOT_STARTING);
		slot->database = database;
		slot->owner = owner;
		slot->since = obx_clock_now();
		slot->wakes_at = DT_NOEND;
		slot->waits_since = waits_since;
		if (role == OBX_ROLE_SEQUENCER)
			obx_slot_set_starved(database, 0);
		found = i;
	}
	LWLockRelease(obx_slots->lock);
	return found;
}

int
obx_slot_start(ObxRole role, Oid database, Oid owner, TimestampTz waits_since)
{
	const char *name = role == OBX_ROLE_SEQUENCER ? "sequencer" : "dispatcher";
	BackgroundWorker worker = {0};
	BackgroundWorkerHandle *handle;
	MemoryContext context;
	Ticket		ticket;
	bool		registered;
	int			index = claim_slot(role, database, owner, waits_since);

	if (index < 0)
		return -1;

	ticket.index = index;
	ticket.generation = obx_slots->slots[index].generation;

	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_outbox %s", name);
	snprintf(worker.bgw_type, BGW_MAXLEN, "pg_outbox %s", name);
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "pg_outbox");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "obx_%s_main", name);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	memcpy(worker.bgw_extra, &ticket, sizeof(ticket));

	context = MemoryContextSwitchTo(TopMemoryContext);
	if (started == NULL)
		started = palloc0(obx_slots->nslots * sizeof(Started));
	registered = RegisterDynamicBackgroundWorker(&worker, &handle);
	MemoryContextSwitchTo(context);

	if (!registered)
	{
		LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
		obx_slots->scarce_at = obx_clock_now();
		obx_slot_free(&obx_slots->slots[index]);
		LWLockRelease(obx_slots->lock);
		return -1;
	}

	if (started[index].handle != NULL)
		pfree(started[index].handle);
	started[index].handle = handle;
	started[index].generation = ticket.generation;
	return index;
}

void
obx_slot_reap(void)
{
	for (int i = 0; started != NULL && i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		pid_t		pid;
		bool		stopped;

		if (started[i].handle == NULL)
			continue;
		stopped = GetBackgroundWorkerPid(started[i].handle, &pid) == BGWH_STOPPED;

		LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
		if (slot->generation != started[i].generation || slot->state != OBX_SLOT_STARTING)
			stopped = true;		/* it came up, and looks after itself */
		else if (stopped)
		{
			obx_slot_set_state(slot, OBX_SLOT_EXITED);
			slot->exit = slot->leave == OBX_LEAVE_ROOM ? OBX_EXIT_GAVE_WAY :
				slot->leave != OBX_LEAVE_NOT ? OBX_EXIT_LEFT : OBX_EXIT_REFUSED;
			slot->since = obx_clock_now();
		}
		LWLockRelease(obx_slots->lock);

		if (stopped)
		{
			pfree(started[i].handle);
			started[i].handle = NULL;
		}
	}
}

/* Wakes those who watch over a worker that ends. */
static void
tell_of_exit(const ObxSlot *gone)
{
	ObxSlot    *sequencer = obx_slot_find_sequencer(gone->database);

	ObxAssertLocked();
	if (sequencer != NULL)
		obx_slot_wake(sequencer);
	obx_slots->left_at = obx_clock_now();
	obx_slot_tell_of_opening();
}

/* before_shmem_exit: whatever ends the process, its slot says so. */
static void
leave_slot(int code, Datum arg)
{
	ObxSlot    *slot = obx_slot_own;

	if (slot == NULL)
		return;
	obx_slot_own = NULL;

	/* an error may have come out of the lock's own section */
	LWLockReleaseAll();

	if (slot->role == OBX_ROLE_SEQUENCER)
		obx_doorbell_leave();

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	if (obx_slot_at_exit)
	{
		obx_slot_own = slot;
		obx_slot_at_exit();
		obx_slot_own = NULL;
	}
	if (slot->exit == OBX_EXIT_FAILED)
	{
		if (slot->leave == OBX_LEAVE_ROOM)
			slot->exit = OBX_EXIT_GAVE_WAY;
		else if (slot->leave != OBX_LEAVE_NOT)
			slot->exit = OBX_EXIT_LEFT;
		else if (!slot->connected)
			slot->exit = OBX_EXIT_REFUSED;
	}
	obx_slot_set_state(slot, OBX_SLOT_EXITED);
	slot->pid = 0;
	slot->since = obx_clock_now();
	if (slot->waits_since == 0)
		slot->waits_since = slot->starved_since;
	slot->starved_since = 0;
	tell_of_exit(slot);
	LWLockRelease(obx_slots->lock);

	obx_doorbell_call(InvalidOid);
}

void
obx_slot_attach(ObxRole role)
{
	Ticket		ticket;
	ObxSlot    *slot;
	bool		wanted;

	memcpy(&ticket, MyBgworkerEntry->bgw_extra, sizeof(ticket));
	if (obx_slots == NULL || ticket.index < 0 || ticket.index >= obx_slots->nslots)
		elog(FATAL, "started without a slot");
	slot = &obx_slots->slots[ticket.index];
	before_shmem_exit(leave_slot, (Datum) 0);

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	wanted = slot->generation == ticket.generation &&
		slot->state == OBX_SLOT_STARTING && slot->role == role;
	if (wanted)
	{
		slot->pid = MyProcPid;
		slot->procno = obx_my_procno();
		obx_slot_set_state(slot, OBX_SLOT_BUSY);
		slot->attached_at = slot->since = obx_clock_now();
		obx_slot_own = slot;
		wanted = slot->leave == OBX_LEAVE_NOT && !obx_slot_is_held(slot->database);
		if (!wanted)
			slot->exit = OBX_EXIT_LEFT;
	}
	LWLockRelease(obx_slots->lock);

	if (!wanted)
		proc_exit(0);
}

void
obx_slot_set_exit(ObxExit exit)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_own->exit = exit;
	LWLockRelease(obx_slots->lock);
}

void
obx_slot_set_connected(void)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_own->connected = true;
	LWLockRelease(obx_slots->lock);

	/* the launcher starts a few at a time */
	if (obx_slot_own->role == OBX_ROLE_SEQUENCER)
		obx_doorbell_call(InvalidOid);
}

void
obx_slot_begin_round(void)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_set_state(obx_slot_own, OBX_SLOT_BUSY);
	obx_slot_own->wakes_at = DT_NOEND;
	LWLockRelease(obx_slots->lock);
}

void
obx_slot_end_round(TimestampTz wakes_at, TimestampTz needed_at, bool worked)
{
	TimestampTz now = obx_clock_now();

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_set_state(obx_slot_own, OBX_SLOT_IDLE);
	obx_slot_own->wakes_at = wakes_at;
	obx_slot_own->needed_at = needed_at;
	if (worked)
		obx_slot_own->worked_at = now;
	if (worked || obx_slot_own->worked_at == 0)
		obx_slot_tell_of_opening();
	if (obx_slot_own->worked_at == 0)
		obx_slot_own->worked_at = now;
	obx_slot_own->since = now;
	LWLockRelease(obx_slots->lock);
}
