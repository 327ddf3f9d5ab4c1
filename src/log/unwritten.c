/*
 * Sessions that have drawn ids which may not be in the log yet.
 *
 * A process that finds the counter set back must know whether there are ids in
 * use that it cannot see.  A lock on the sequence would tell, but costs every
 * transaction a twentieth of what its event costs.  So each process has a
 * place in shared memory, where it writes its database before it draws and
 * from which it takes it back when the transaction has ended.  A place is
 * written by its process only.  A process without a place, because the library
 * was not preloaded, takes the lock.
 *
 * A process that is killed takes the shared memory along; one that ends in any
 * other way ends its transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "postmaster/autovacuum.h"
#include "replication/walsender.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "log/unwritten.h"

/* Beside those that can be counted when the library is loaded. */
#define EXTRA_PLACES	64

typedef struct Unwritten
{
	int			count;			/* never changes */
	pg_atomic_uint32 databases[FLEXIBLE_ARRAY_MEMBER];	/* by procno;
														 * InvalidOid: draws
														 * none */
} Unwritten;

static Unwritten *places = NULL;

static void initialize_places(void *region, LWLockPadded *locks);

static ObxRegion unwritten_region = {
	.name = "pg_outbox unwritten",
	.address = (void **) &places,
	.initialize = initialize_places
};

/* Has the current transaction entered? */
static bool entered = false;

static int
count_places(void)
{
	return MaxConnections + max_worker_processes + max_wal_senders + autovacuum_max_workers +
		EXTRA_PLACES;
}

static void
initialize_places(void *region, LWLockPadded *locks)
{
	Unwritten  *new = region;

	new->count = count_places();
	for (int i = 0; i < new->count; i++)
		pg_atomic_init_u32(&new->databases[i], InvalidOid);
}

/* What is prepared has written what it drew. */
static void
leave_at_end(XactEvent event, void *arg)
{
	if (!entered || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
					 event != XACT_EVENT_PREPARE))
		return;
	pg_atomic_write_u32(&places->databases[obx_my_procno()], InvalidOid);
	entered = false;
}

void
obx_unwritten_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;

	unwritten_region.size = offsetof(Unwritten, databases) + count_places() * sizeof(pg_atomic_uint32);
	obx_shmem_register(&unwritten_region);
	RegisterXactCallback(leave_at_end, NULL);
}

bool
obx_unwritten_enter(void)
{
	if (entered)
		return true;
	if (places == NULL || obx_my_procno() >= places->count)
		return false;
	pg_atomic_write_u32(&places->databases[obx_my_procno()], MyDatabaseId);

	/*
	 * before news of the counter are read, so that one of the two sees the
	 * other
	 */
	pg_memory_barrier();
	entered = true;
	return true;
}

bool
obx_unwritten_has_others(void)
{
	if (places == NULL)
		return false;
	pg_memory_barrier();
	for (int i = 0; i < places->count; i++)
		if (i != obx_my_procno() && pg_atomic_read_u32(&places->databases[i]) == MyDatabaseId)
			return true;
	return false;
}
