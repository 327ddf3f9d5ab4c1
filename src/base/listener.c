/*
 * Sessions that LISTEN for what is new in the log: is anybody there, and does
 * anybody wait?
 *
 * PostgreSQL offers no list of the sessions that listen.  So base/hook.h
 * watches LISTEN and UNLISTEN of our channel, and a session that listens has a
 * place in shared memory until it ends.  In doubt it keeps its place: a
 * superfluous notification does no harm, a missing one would be waited for.
 *
 * A place has two flags.  "waits": a listener has come to the end of the log
 * and was not notified since then.  "owed": there is something new, and no
 * notification has announced it.  A process that raises one of them then looks
 * at the other, so both cannot be up for long; all fields are atomics, as with
 * the doorbell.
 *
 * Must not know what is announced, nor when.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "port/atomics.h"
#include "storage/ipc.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "base/hook.h"
#include "base/listener.h"
#include "base/shmem.h"

/* Where more listen, those beyond hear what is announced for others. */
#define LISTENERS 1024

typedef struct Place
{
	pg_atomic_uint32 database;	/* of the session; 0: free */
	pg_atomic_uint32 waits;
	pg_atomic_uint32 owed;
} Place;

typedef struct Listeners
{
	pg_atomic_uint32 count;		/* of places that are taken */
	pg_atomic_uint32 used;		/* places from here on are free */
	Place		places[LISTENERS];
} Listeners;

static Listeners *listeners = NULL;

static void initialize_listeners(void *region, LWLockPadded *locks);

static ObxRegion listener_region = {
	.name = "pg_outbox listeners",
	.size = sizeof(Listeners),
	.address = (void **) &listeners,
	.initialize = initialize_listeners
};

/* What the current transaction asks for, the last command last. */
typedef enum Wish
{
	WISH_NONE,
	WISH_LISTEN,
	WISH_UNLISTEN
} Wish;

static Place *own = NULL;		/* the place of this session */
static Wish wish = WISH_NONE;

static void
initialize_listeners(void *region, LWLockPadded *locks)
{
	Listeners  *new = region;

	pg_atomic_init_u32(&new->count, 0);
	pg_atomic_init_u32(&new->used, 0);
	for (int i = 0; i < LISTENERS; i++)
	{
		pg_atomic_init_u32(&new->places[i].database, InvalidOid);
		pg_atomic_init_u32(&new->places[i].waits, 0);
		pg_atomic_init_u32(&new->places[i].owed, 0);
	}
}

/* ---- places ---- */

static void
leave(void)
{
	if (own == NULL)
		return;
	pg_atomic_write_u32(&own->waits, 0);
	pg_atomic_write_u32(&own->owed, 0);
	pg_memory_barrier();
	pg_atomic_write_u32(&own->database, InvalidOid);
	own = NULL;
	pg_atomic_fetch_sub_u32(&listeners->count, 1);
}

/* before_shmem_exit callback */
static void
leave_at_exit(int code, Datum arg)
{
	leave();
}

/* At commit.  A session that begins to listen waits for the first new event. */
static void
enter(void)
{
	if (own != NULL)
		return;
	for (uint32 i = 0; i < LISTENERS && own == NULL; i++)
	{
		uint32		nobody = InvalidOid;
		uint32		used;

		if (!pg_atomic_compare_exchange_u32(&listeners->places[i].database, &nobody,
											MyDatabaseId))
			continue;
		own = &listeners->places[i];
		pg_atomic_write_u32(&own->waits, 1);
		used = pg_atomic_read_u32(&listeners->used);
		while (used <= i && !pg_atomic_compare_exchange_u32(&listeners->used, &used, i + 1))
			;
		pg_atomic_fetch_add_u32(&listeners->count, 1);
	}
}

/* ---- the session's commands ---- */

static void
end_transaction(XactEvent event, void *arg)
{
	if (wish == WISH_NONE || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
							  event != XACT_EVENT_PREPARE))
		return;
	if (event == XACT_EVENT_COMMIT && wish == WISH_LISTEN)
		enter();
	else if (event == XACT_EVENT_COMMIT)
		leave();
	wish = WISH_NONE;
}

static void
note_listen(Node *command, uint64 state)
{
	static bool registered = false;

	if (listeners == NULL ||
		strcmp(castNode(ListenStmt, command)->conditionname, OBX_HEAD_CHANNEL) != 0)
		return;
	/* not at the commit, where nothing may fail */
	if (!registered)
		before_shmem_exit(leave_at_exit, (Datum) 0);
	registered = true;
	wish = WISH_LISTEN;
}

/* A savepoint may undo it. */
static void
wish_unlisten(void)
{
	if (GetCurrentTransactionNestLevel() == 1 && (own != NULL || wish == WISH_LISTEN))
		wish = WISH_UNLISTEN;
}

static void
note_unlisten(Node *command, uint64 state)
{
	const char *channel = castNode(UnlistenStmt, command)->conditionname;

	if (channel == NULL || strcmp(channel, OBX_HEAD_CHANNEL) == 0)
		wish_unlisten();
}

/* If the command fails, so does the wish. */
static void
look_for_discard(const PlannedStmt *statement, ProcessUtilityContext context)
{
	if (IsA(statement->utilityStmt, DiscardStmt) &&
		castNode(DiscardStmt, statement->utilityStmt)->target == DISCARD_ALL)
		wish_unlisten();
}

static const ObxHookWatcher watchers[] = {
	{.command = T_ListenStmt,.after = note_listen},
	{.command = T_UnlistenStmt,.after = note_unlisten},
};

void
obx_listener_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	obx_shmem_register(&listener_region);
	RegisterXactCallback(end_transaction, NULL);
	obx_hook_watch(watchers, lengthof(watchers));
	obx_hook_guard(look_for_discard);
}

/* ---- who waits, and for what ---- */

/* Those of our database, one after the other; NULL after the last. */
static Place *
next_place(uint32 *i, uint32 used)
{
	while (*i < used)
	{
		Place	   *place = &listeners->places[(*i)++];

		if (pg_atomic_read_u32(&place->database) == MyDatabaseId)
			return place;
	}
	return NULL;
}

static bool
is_nobody(uint32 *used)
{
	if (listeners == NULL || pg_atomic_read_u32(&listeners->count) == 0)
		return true;
	*used = pg_atomic_read_u32(&listeners->used);
	return false;
}

void
obx_listener_arm(void)
{
	uint32		used;
	Place	   *place;
	bool		owed = false;

	if (is_nobody(&used))
		return;
	for (uint32 i = 0; (place = next_place(&i, used)) != NULL;)
	{
		pg_atomic_write_u32(&place->waits, 1);
		pg_memory_barrier();
		owed |= pg_atomic_read_u32(&place->owed) != 0;
	}
	if (owed)
		obx_doorbell_nudge();
}

bool
obx_listener_note(void)
{
	uint32		used;
	Place	   *place;
	bool		found = false;

	if (is_nobody(&used))
		return false;
	for (uint32 i = 0; (place = next_place(&i, used)) != NULL;)
	{
		pg_atomic_write_u32(&place->owed, 1);
		found = true;
	}
	/* before the other flag is read */
	pg_memory_barrier();
	return found;
}

bool
obx_listener_take(void)
{
	uint32		used;
	Place	   *place;
	bool		waits = false;

	if (is_nobody(&used))
		return false;
	for (uint32 i = 0; (place = next_place(&i, used)) != NULL;)
		waits |= pg_atomic_exchange_u32(&place->waits, 0) != 0;
	return waits;
}

bool
obx_listener_is_owed(void)
{
	uint32		used;
	Place	   *place;

	if (is_nobody(&used))
		return false;
	for (uint32 i = 0; (place = next_place(&i, used)) != NULL;)
		if (pg_atomic_read_u32(&place->owed) != 0)
			return true;
	return false;
}

void
obx_listener_forget(void)
{
	uint32		used;
	Place	   *place;

	if (is_nobody(&used))
		return;
	for (uint32 i = 0; (place = next_place(&i, used)) != NULL;)
		pg_atomic_write_u32(&place->owed, 0);
}
