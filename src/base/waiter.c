/*
 * Sessions that wait for something new to pull: how they are woken.
 *
 * As with the doorbell, all fields are atomics and no lock is taken, since
 * those who wake do so from a transaction callback, or have others to serve.
 * Being woken is a hint: who waits looks before it sleeps, and on a slow timer.
 *
 * Must not know what is waited for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "base/waiter.h"

/* Those beyond look by their timers. */
#define WAITERS 1024

/* Only the process that waits writes it. */
typedef struct Waiter
{
	pg_atomic_uint32 procno;	/* whose latch to set, plus one; 0: free */
	pg_atomic_uint32 database;
} Waiter;

typedef struct Waiters
{
	pg_atomic_uint32 count;		/* of those who wait */
	pg_atomic_uint32 used;		/* places from here on are free */
	Waiter		waiters[WAITERS];
} Waiters;

static Waiters *waiters = NULL;

static void initialize_waiters(void *region, LWLockPadded *locks);

static ObxRegion waiter_region = {
	.name = "pg_outbox waiters",
	.size = sizeof(Waiters),
	.address = (void **) &waiters,
	.initialize = initialize_waiters
};

static int	own = -1;			/* the place of this session */
static bool armed = false;

static void
initialize_waiters(void *region, LWLockPadded *locks)
{
	Waiters    *new = region;

	pg_atomic_init_u32(&new->count, 0);
	pg_atomic_init_u32(&new->used, 0);
	for (int i = 0; i < WAITERS; i++)
	{
		pg_atomic_init_u32(&new->waiters[i].procno, 0);
		pg_atomic_init_u32(&new->waiters[i].database, InvalidOid);
	}
}

static void
wake_at_end(XactEvent event, void *arg)
{
	if (!armed || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
				   event != XACT_EVENT_PREPARE))
		return;
	armed = false;
	obx_waiter_wake();
}

void
obx_waiter_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	obx_shmem_register(&waiter_region);
	RegisterXactCallback(wake_at_end, NULL);
}

/* before_shmem_exit callback */
static void
leave_at_exit(int code, Datum arg)
{
	obx_waiter_leave();
}

bool
obx_waiter_enter(void)
{
	static bool registered = false;

	if (waiters == NULL || own >= 0)
		return own >= 0;
	if (!registered)
		before_shmem_exit(leave_at_exit, (Datum) 0);
	registered = true;

	for (int i = 0; i < WAITERS && own < 0; i++)
	{
		uint32		nobody = 0;
		uint32		used;

		if (!pg_atomic_compare_exchange_u32(&waiters->waiters[i].procno, &nobody,
											(uint32) obx_my_procno() + 1))
			continue;
		own = i;
		pg_atomic_write_u32(&waiters->waiters[i].database, MyDatabaseId);
		used = pg_atomic_read_u32(&waiters->used);
		while (used <= i && !pg_atomic_compare_exchange_u32(&waiters->used, &used, i + 1))
			;
		pg_atomic_fetch_add_u32(&waiters->count, 1);
	}
	return own >= 0;
}

void
obx_waiter_leave(void)
{
	Waiter	   *waiter;

	if (own < 0)
		return;
	waiter = &waiters->waiters[own];
	own = -1;
	pg_atomic_write_u32(&waiter->database, InvalidOid);
	pg_memory_barrier();
	pg_atomic_write_u32(&waiter->procno, 0);
	pg_atomic_fetch_sub_u32(&waiters->count, 1);
}

/*
 * One that leaves meanwhile, or another one in its place, wakes for nothing,
 * which every process must bear.
 */
void
obx_waiter_wake(void)
{
	uint32		used;

	if (waiters == NULL)
		return;
	/* what they wait for is there before we look for them */
	pg_memory_barrier();
	if (pg_atomic_read_u32(&waiters->count) == 0)
		return;
	used = pg_atomic_read_u32(&waiters->used);
	for (uint32 i = 0; i < used; i++)
	{
		Waiter	   *waiter = &waiters->waiters[i];
		uint32		procno = pg_atomic_read_u32(&waiter->procno);

		if (procno > 0 && pg_atomic_read_u32(&waiter->database) == MyDatabaseId)
			SetLatch(&GetPGProcByNumber(procno - 1)->procLatch);
	}
}

void
obx_waiter_arm(void)
{
	armed = waiters != NULL;
}
