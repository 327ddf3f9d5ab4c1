/*
 * The doorbell: how a commit wakes its database's sequencer.
 *
 * There is one bell per database that has had a sequencer, found by its
 * database, and one for the launcher.  All fields are atomics and no lock is
 * taken: a commit rings from the transaction callback, where an error would
 * take the server down and a wait would be paid by every producer.  A ring that
 * meets a bell just being hung up or taken down is lost, which is harmless: a
 * sequencer looks once before it first sleeps, and on a timer.
 *
 * A bell stays when its sequencer ends, since that may be for want of worker
 * processes: the first commit that rings it wakes the launcher instead, and the
 * flag stays up until a sequencer has come.
 *
 * A process that rings pays for a wake-up only if the flag was down, so a busy
 * sequencer costs its producers one atomic exchange.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "base/shmem.h"
#include "base/waiter.h"

/* Written by its sequencer, but for flag, configuration and due: by those who ring. */
typedef struct Bell
{
	pg_atomic_uint32 database;	/* InvalidOid: free */
	pg_atomic_uint32 procno;	/* whose latch to set, plus one; 0 for the
								 * launcher's */
	pg_atomic_uint32 flag;		/* 1: rung, and not yet looked */
	pg_atomic_uint32 configuration; /* number of changes */
	pg_atomic_uint64 due;		/* a TimestampTz: the earliest of what was
								 * scheduled since the sequencer looked */
} Bell;

typedef struct Doorbell
{
	pg_atomic_uint32 launcher;	/* its procno plus one; 0 for nobody */
	pg_atomic_uint32 prepared;	/* 1: a prepared transaction changed
								 * configuration */
	pg_atomic_uint32 any;		/* 1: calls did not fit below */
	pg_atomic_uint32 calls[OBX_DOORBELL_CALLS]; /* databases, InvalidOid: free */
	pg_atomic_uint32 used;		/* bells from here on are free */
	int			nbells;			/* never changes */
	Bell		bells[FLEXIBLE_ARRAY_MEMBER];
} Doorbell;

/* Databases that fit; the sequencers of others find out by their timers. */
#define EXTRA_BELLS 2048

static Doorbell *doorbell = NULL;

static void initialize_doorbell(void *region, LWLockPadded *locks);

static ObxRegion doorbell_region = {
	.name = "pg_outbox doorbell",
	.address = (void **) &doorbell,
	.initialize = initialize_doorbell
};

/* What the current transaction will ring when it commits. */
static bool armed = false;
static bool armed_configuration = false;
static bool armed_launcher = false;
static TimestampTz armed_due = DT_NOEND;

/* The bell of our database when last looked, a hint; and, in a sequencer, its. */
static int	known_bell = 0;
static int	own_bell = -1;

static void
initialize_doorbell(void *region, LWLockPadded *locks)
{
	Doorbell   *new = region;

	pg_atomic_init_u32(&new->launcher, 0);
	pg_atomic_init_u32(&new->prepared, 0);
	pg_atomic_init_u32(&new->any, 0);
	for (int i = 0; i < OBX_DOORBELL_CALLS; i++)
		pg_atomic_init_u32(&new->calls[i], InvalidOid);

	pg_atomic_init_u32(&new->used, 0);
	new->nbells = max_worker_processes + EXTRA_BELLS;
	for (int i = 0; i < new->nbells; i++)
	{
		pg_atomic_init_u32(&new->bells[i].database, InvalidOid);
		pg_atomic_init_u32(&new->bells[i].procno, 0);
		pg_atomic_init_u32(&new->bells[i].flag, 0);
		pg_atomic_init_u32(&new->bells[i].configuration, 0);
		pg_atomic_init_u64(&new->bells[i].due, (uint64) DT_NOEND);
	}
}

static Bell *
find_bell(void)
{
	if (pg_atomic_read_u32(&doorbell->bells[known_bell].database) == MyDatabaseId)
		return &doorbell->bells[known_bell];

	for (int i = 0; i < pg_atomic_read_u32(&doorbell->used); i++)
	{
		if (pg_atomic_read_u32(&doorbell->bells[i].database) == MyDatabaseId)
		{
			known_bell = i;
			return &doorbell->bells[i];
		}
	}
	return NULL;
}

/*
 * The process may have gone, and another may have its place: that one wakes
 * for nothing, which every process must bear.
 */
static void
set_latch_of(pg_atomic_uint32 *procno)
{
	uint32		proc = pg_atomic_read_u32(procno);

	if (proc > 0)
		SetLatch(&GetPGProcByNumber(proc - 1)->procLatch);
}

/* Something is due then; the earliest time counts. */
static void
lower_due(Bell *bell, TimestampTz due)
{
	uint64		known = pg_atomic_read_u64(&bell->due);

	while (due < (TimestampTz) known &&
		   !pg_atomic_compare_exchange_u64(&bell->due, &known, (uint64) due))
		;
}

/* At commit: allocates nothing, waits for nothing, cannot fail. */
static void
ring_bells(void)
{
	Bell	   *bell;

	if (!OidIsValid(MyDatabaseId))
		return;

	bell = (armed || armed_configuration) ? find_bell() : NULL;
	if (bell != NULL)
	{
		if (armed_configuration)
			pg_atomic_fetch_add_u32(&bell->configuration, 1);
		if (armed_due != DT_NOEND)
			lower_due(bell, armed_due);
		if (pg_atomic_exchange_u32(&bell->flag, 1) == 0)
			set_latch_of(pg_atomic_read_u32(&bell->procno) != 0 ?
						 &bell->procno : &doorbell->launcher);
	}
	else if (armed_configuration)
		obx_doorbell_call(MyDatabaseId);
	if (armed_configuration)
		obx_waiter_wake();

	if (armed_launcher)
		obx_doorbell_call(InvalidOid);
}

void
obx_doorbell_nudge(void)
{
	Bell	   *bell = doorbell != NULL && OidIsValid(MyDatabaseId) ? find_bell() : NULL;

	if (bell != NULL)
		set_latch_of(&bell->procno);
}

static void
ring_at_end(XactEvent event, void *arg)
{
	if (!armed && !armed_configuration && !armed_launcher)
		return;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			ring_bells();
			break;
		case XACT_EVENT_PREPARE:
			/* COMMIT PREPARED cannot know which one it commits */
			if (armed_configuration)
				pg_atomic_write_u32(&doorbell->prepared, 1);
			break;
		case XACT_EVENT_ABORT:
			break;
		default:
			return;
	}
	armed = armed_configuration = armed_launcher = false;
	armed_due = DT_NOEND;
}

void
obx_doorbell_init(void)
{
	/* without preload there are no processes to wake */
	if (!process_shared_preload_libraries_in_progress)
		return;

	doorbell_region.size = offsetof(Doorbell, bells) +
		(max_worker_processes + EXTRA_BELLS) * sizeof(Bell);
	obx_shmem_register(&doorbell_region);
	RegisterXactCallback(ring_at_end, NULL);
}

void
obx_doorbell_arm(void)
{
	armed = doorbell != NULL && doorbell->nbells > 0;
}

void
obx_doorbell_arm_due(TimestampTz due)
{
	obx_doorbell_arm();
	armed_due = Min(armed_due, due);
}

void
obx_doorbell_arm_configuration(void)
{
	armed_configuration = doorbell != NULL && doorbell->nbells > 0;
}

void
obx_doorbell_arm_prepared(void)
{
	obx_doorbell_arm();
	if (armed && pg_atomic_read_u32(&doorbell->prepared) != 0)
		obx_doorbell_arm_configuration();
}

void
obx_doorbell_arm_launcher(void)
{
	armed_launcher = doorbell != NULL;
}

/* The bell of our database, or a new one; NULL when all are taken. */
static Bell *
claim_bell(void)
{
	Bell	   *bell = find_bell();

	for (int i = 0; bell == NULL && i < doorbell->nbells; i++)
	{
		uint32		nobody = InvalidOid;
		uint32		used = pg_atomic_read_u32(&doorbell->used);

		if (!pg_atomic_compare_exchange_u32(&doorbell->bells[i].database, &nobody, MyDatabaseId))
			continue;
		bell = &doorbell->bells[i];
		pg_atomic_write_u64(&bell->due, (uint64) DT_NOEND);
		while (used <= i && !pg_atomic_compare_exchange_u32(&doorbell->used, &used, i + 1))
			;
	}
	return bell;
}

void
obx_doorbell_open(void)
{
	Bell	   *bell = claim_bell();

	if (bell == NULL)
		return;
	pg_atomic_write_u32(&bell->procno, (uint32) obx_my_procno() + 1);
	pg_atomic_write_u32(&bell->flag, 0);
	pg_memory_barrier();
	own_bell = bell - doorbell->bells;
}

void
obx_doorbell_leave(void)
{
	if (own_bell < 0)
		return;
	pg_atomic_write_u32(&doorbell->bells[own_bell].procno, 0);
	pg_memory_barrier();
	own_bell = -1;
}

bool
obx_doorbell_close(void)
{
	Bell	   *bell;

	if (own_bell < 0)
		return false;
	bell = &doorbell->bells[own_bell];
	own_bell = -1;
	pg_atomic_write_u32(&bell->procno, 0);
	pg_memory_barrier();
	pg_atomic_write_u32(&bell->database, InvalidOid);
	return pg_atomic_exchange_u32(&bell->flag, 0) != 0;
}

bool
obx_doorbell_clear(void)
{
	return own_bell >= 0 && pg_atomic_exchange_u32(&doorbell->bells[own_bell].flag, 0) != 0;
}

TimestampTz
obx_doorbell_take_due(void)
{
	if (own_bell < 0)
		return DT_NOEND;
	return (TimestampTz) pg_atomic_exchange_u64(&doorbell->bells[own_bell].due,
												(uint64) DT_NOEND);
}

uint32
obx_doorbell_configuration(void)
{
	return own_bell < 0 ? 0 : pg_atomic_read_u32(&doorbell->bells[own_bell].configuration);
}

void
obx_doorbell_visit(void (*visit) (Oid database, bool rung))
{
	for (int i = 0; i < pg_atomic_read_u32(&doorbell->used); i++)
	{
		Bell	   *bell = &doorbell->bells[i];
		Oid			database = pg_atomic_read_u32(&bell->database);

		if (OidIsValid(database) && pg_atomic_read_u32(&bell->procno) == 0)
			visit(database, pg_atomic_read_u32(&bell->flag) != 0);
	}
}

void
obx_doorbell_remove(Oid database)
{
	for (int i = 0; i < pg_atomic_read_u32(&doorbell->used); i++)
	{
		Bell	   *bell = &doorbell->bells[i];
		uint32		expected = database;

		if (pg_atomic_read_u32(&bell->database) == database)
		{
			pg_atomic_write_u32(&bell->flag, 0);
			(void) pg_atomic_compare_exchange_u32(&bell->database, &expected, InvalidOid);
		}
	}
}

void
obx_doorbell_listen(void)
{
	pg_atomic_write_u32(&doorbell->launcher, (uint32) obx_my_procno() + 1);
	pg_memory_barrier();
}

void
obx_doorbell_unlisten(void)
{
	pg_atomic_write_u32(&doorbell->launcher, 0);
}

int
obx_doorbell_collect(Oid *databases)
{
	bool		any = pg_atomic_exchange_u32(&doorbell->any, 0) != 0;
	int			count = 0;

	for (int i = 0; i < OBX_DOORBELL_CALLS; i++)
	{
		Oid			database = pg_atomic_exchange_u32(&doorbell->calls[i], InvalidOid);

		if (OidIsValid(database))
			databases[count++] = database;
	}
	return any ? -1 : count;
}

void
obx_doorbell_call(Oid database)
{
	bool		noted = !OidIsValid(database);

	for (int i = 0; i < OBX_DOORBELL_CALLS && !noted; i++)
	{
		uint32		nobody = InvalidOid;

		noted = pg_atomic_read_u32(&doorbell->calls[i]) == database ||
			pg_atomic_compare_exchange_u32(&doorbell->calls[i], &nobody, database);
	}
	if (!noted)
		pg_atomic_write_u32(&doorbell->any, 1);
	pg_memory_barrier();
	set_latch_of(&doorbell->launcher);
}
