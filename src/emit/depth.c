/*
 * The number of causes above an event.
 *
 * The log does not contain it: an event names its cause, and only a walk from
 * cause to cause counts them.  So that a chain costs nothing per link, the
 * depth of each event that a handler emits is remembered, and looked up when
 * any process handles that event.  An entry is only a hint and may be
 * overwritten at any time; then the walk goes up to an event with an entry, or
 * to the top.  An ancestor that retention has dropped is the top.
 *
 * The table has one place per id, so it needs no upkeep.  It is in shared
 * memory if the library was preloaded, otherwise in the process.  Ids are
 * unique only within a log, so an entry also names the log, by its database
 * and OID.
 *
 * Code that emits outside of handlers does not use this.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/settings.h"
#include "base/shmem.h"
#include "catalog/names.h"
#include "emit/context.h"
#include "emit/depth.h"
#include "log/find.h"
#include "log/read.h"

#define OBX_DEPTHS 8192

typedef struct Entry
{
	Oid			database;
	Oid			log;			/* OID of outbox.event there */
	int64		id;				/* 0: empty */
	int			depth;
} Entry;

typedef struct Table
{
	LWLock	   *lock;			/* NULL if it is the process's own */
	Entry		entries[OBX_DEPTHS];	/* under the lock */
} Table;

static Table *table = NULL;

/* ---- what is remembered ---- */

static void
initialize_table(void *region, LWLockPadded *locks)
{
	((Table *) region)->lock = &locks[0].lock;
}

static const ObxRegion depth_region = {
	.name = "pg_outbox depths",
	.size = sizeof(Table),
	.locks = 1,
	.address = (void **) &table,
	.initialize = initialize_table
};

void
obx_depth_init(void)
{
	obx_shmem_register(&depth_region);
}

/* The id's place in the table, locked. */
static Entry *
lock_entry(int64 id, LWLockMode mode)
{
	if (table == NULL)
		table = MemoryContextAllocZero(TopMemoryContext, sizeof(Table));
	if (table->lock != NULL)
		LWLockAcquire(table->lock, mode);
	return &table->entries[((uint64) id + murmurhash32(MyDatabaseId)) % OBX_DEPTHS];
}

static void
unlock_entry(void)
{
	Assert(table->lock == NULL || LWLockHeldByMe(table->lock));
	if (table->lock != NULL)
		LWLockRelease(table->lock);
}

/* The depth of an event, -1 if it is not remembered. */
static int
recall(int64 id)
{
	Oid			log = obx_object_require(OBX_EVENT);
	const Entry *entry = lock_entry(id, LW_SHARED);
	int			depth = -1;

	if (entry->id == id && entry->database == MyDatabaseId && entry->log == log)
		depth = entry->depth;
	unlock_entry();
	return depth;
}

void
obx_depth_note(int64 id, int depth)
{
	Oid			log = obx_object_require(OBX_EVENT);
	Entry	   *entry = lock_entry(id, LW_EXCLUSIVE);

	entry->database = MyDatabaseId;
	entry->log = log;
	entry->id = id;
	entry->depth = depth;
	unlock_entry();
}

/* ---- what the log says ---- */

/* The cause of an event in the log; 0 if it has none, or is not kept. */
static int64
read_cause(int64 id)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = obx_event_make_slot();
	int64		cause = 0;

	if (obx_event_find_by_id(snapshot, id, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, OBX_EVENT_CAUSATION_ID + 1, &isnull);

		cause = isnull ? 0 : DatumGetInt64(value);
	}
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	return cause;
}

/* Walks up from the event that the context is of; remembers what it meets. */
static int
find_depth(const ObxContext *context)
{
	int64		id = context->event_id;
	int64		cause = context->causation_id;
	int			depth = recall(id);
	int64	   *chain;
	int			count = 0;
	int			room = 64;

	if (depth >= 0)
		return depth;
	chain = palloc(room * sizeof(int64));
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (count == room)
			chain = repalloc(chain, (room *= 2) * sizeof(int64));
		chain[count++] = id;
		if (cause == OBX_CAUSE_UNKNOWN)
			cause = read_cause(id);
		/* a cause is always older than its effect */
		if (cause <= 0 || cause >= id)
			break;
		id = cause;
		cause = OBX_CAUSE_UNKNOWN;
		depth = recall(id);
		if (depth >= 0)
			break;
	}
	while (count > 0)
		obx_depth_note(chain[--count], ++depth);
	pfree(chain);
	return depth;
}

int
obx_depth_check(Datum type)
{
	const ObxContext *context = obx_context_current();
	int			depth;

	if (likely(context == NULL || context->event_id == 0))
		return 0;
	depth = find_depth(context) + 1;
	if (depth > obx_max_depth)
		ereport(ERROR,
				(errcode(OBX_ERRCODE_TOO_DEEP),
				 errmsg("event \"%s\" would have %d causes above it",
						TextDatumGetCString(type), depth),
				 errdetail("It would be caused by event " INT64_FORMAT
						   ", in subscription \"%s\"; outbox.max_depth allows for %d causes.",
						   context->event_id, context->subscription, obx_max_depth),
				 errhint("outbox.trace() shows the chain.  If handlers feed themselves or each other, give what they emit another type; if it is meant, raise outbox.max_depth.")));
	return depth;
}
