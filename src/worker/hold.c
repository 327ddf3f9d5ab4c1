/*
 * Holds: keeping workers out of a database for the rest of a transaction.
 *
 * A command that drops, copies or renames a database, or drops or updates the
 * extension in it, must not meet our workers, nor wait for one of their
 * handlers.  A hold stands in shared memory with the process id of its owner:
 * the launcher starts nothing in that database, and a worker on its way turns
 * back.  Workers are asked to leave between two events.  A worker that does
 * not leave within a moment is in the middle of a handler and is terminated:
 * its transaction rolls back, as after any failure of a handler.
 *
 * Holds end with the transaction, or with the process.
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/doorbell.h"
#include "worker/hold.h"
#include "worker/slot.h"

/* Then those in a handler are terminated; then we go on in any case. */
#define PATIENCE OBX_MS(50)
#define LONGEST_WAIT OBX_MS(5000)

static bool holding = false;
static bool exit_registered = false;

/* The workers to be renewed at commit. */
static bool renewing = false;
static bool renew_sequencers = false;
static Oid	renew_database = InvalidOid;
static Oid	renew_owner = InvalidOid;

static void
release_holds(void)
{
	if (!holding)
		return;
	holding = false;
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < OBX_HOLDS; i++)
		if (obx_slots->holds[i].pid == MyProcPid)
			memset(&obx_slots->holds[i], 0, sizeof(ObxHold));
	LWLockRelease(obx_slots->lock);
	obx_doorbell_call(InvalidOid);
}

static void
release_at_exit(int code, Datum arg)
{
	LWLockReleaseAll();
	release_holds();
}

static void
renew_workers(void)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (OidIsValid(renew_database) && slot->database != renew_database)
			continue;
		if (slot->role == OBX_ROLE_SEQUENCER ? renew_sequencers :
			(!OidIsValid(renew_owner) || slot->owner == renew_owner))
			obx_slot_ask_to_leave(slot, OBX_LEAVE_TURN);
	}
	LWLockRelease(obx_slots->lock);
}

/* Cannot fail: it runs when the commit cannot be taken back. */
static void
end_with_transaction(XactEvent event, void *arg)
{
	if (!holding && !renewing)
		return;
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;

	if (renewing && event == XACT_EVENT_COMMIT)
		renew_workers();
	renewing = false;
	release_holds();
}

void
obx_hold_init(void)
{
	RegisterXactCallback(end_with_transaction, NULL);
}

void
obx_hold_renew_later(Oid database, Oid owner, bool sequencers)
{
	if (renewing)
	{
		/* a second one: what covers both */
		if (renew_database != database)
			renew_database = InvalidOid;
		if (renew_owner != owner)
			renew_owner = InvalidOid;
		renew_sequencers = renew_sequencers || sequencers;
		return;
	}
	renewing = true;
	renew_database = database;
	renew_owner = owner;
	renew_sequencers = sequencers;
}

/* Asks the workers to leave, and leaves a note for those to come. */
static void
place_hold(Oid database)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	holding = true;
	for (int i = 0; i < OBX_HOLDS; i++)
	{
		/* if there is no room, the workers leave all the same */
		if (obx_slots->holds[i].database == InvalidOid)
		{
			obx_slots->holds[i].database = database;
			obx_slots->holds[i].pid = MyProcPid;
			break;
		}
	}
	for (int i = 0; i < obx_slots->nslots; i++)
		if (obx_slots->slots[i].database == database)
			obx_slot_ask_to_leave(&obx_slots->slots[i], OBX_LEAVE_NOW);
	LWLockRelease(obx_slots->lock);
}

/*
 * Lists the processes of the workers in the database; terminates them too, if
 * asked: under the lock their ids are theirs.
 */
static int
list_workers(Oid database, pid_t *pids, bool terminate)
{
	int			count = 0;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->database != database || slot->pid == 0 || slot->pid == MyProcPid)
			continue;
		if (terminate)
			kill(slot->pid, SIGTERM);
		pids[count++] = slot->pid;
	}
	LWLockRelease(obx_slots->lock);
	return count;
}

/* A worker that gave up its slot may still count as connected for a moment. */
static bool
is_connected(pid_t pid, Oid database)
{
	PGPROC	   *proc = BackendPidGetProc(pid);

	return proc != NULL && proc->databaseId == database;
}

static void
wait_until_gone(Oid database)
{
	static uint32 wait_event = 0;
	TimestampTz start = obx_clock_now();
	pid_t	   *pids = palloc(obx_slots->nslots * sizeof(pid_t));
	pid_t	   *known = palloc(obx_slots->nslots * sizeof(pid_t));
	int			nknown = list_workers(database, known, false);
	bool		terminated = false;

	if (wait_event == 0)
		wait_event = obx_wait_event("PgOutboxWorkersLeave");

	for (;;)
	{
		TimestampTz now = obx_clock_now();
		bool		impatient = !terminated && now - start >= PATIENCE;
		bool		gone = list_workers(database, pids, impatient) == 0;

		terminated = terminated || impatient;
		for (int i = 0; gone && i < nknown; i++)
			gone = !is_connected(known[i], database);
		if (gone || now - start >= LONGEST_WAIT)
			break;

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 2, wait_event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(known);
	pfree(pids);
}

void
obx_hold_take(Oid database)
{
	if (obx_slot_own != NULL)
		return;					/* a handler does it: that worker would wait
								 * for itself */
	if (!exit_registered)
	{
		on_shmem_exit(release_at_exit, (Datum) 0);
		exit_registered = true;
	}
	place_hold(database);
	wait_until_gone(database);
}
