/*
 * The launcher: one sequencer for every database that has the extension.
 *
 * Connected to no database, it sees which there are and not what is in them.
 * So a sequencer is started in each to look, and again when something in that
 * database calls (CREATE EXTENSION rings the doorbell at commit) or after a
 * while that doubles up to an hour: a call is a hint, and a probe costs a
 * process start.  Compares what should run with what runs in every round, so
 * that it may be killed and restarted at any point.
 *
 * Where worker processes are fewer than databases need, sequencers with nothing
 * to do give way (room.c).  Their databases get one again when a commit rings,
 * when something is due in them, and now and then; who waits longest is first.
 *
 * Never exits with code 0, which would unregister it for good.  Must not know
 * what sequencers do.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "storage/ipc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/doorbell.h"
#include "worker/process.h"
#include "worker/room.h"
#include "worker/slot.h"

#define SECONDS(n) ((n) * USECS_PER_SEC)

#define LIST_INTERVAL SECONDS(60)
#define FIRST_PROBE SECONDS(60)
#define LONGEST_PROBE SECONDS(3600)
#define FIRST_DELAY SECONDS(1)
#define LONGEST_DELAY SECONDS(30)
#define RESTING_PROBE SECONDS(300)	/* where the sequencer gave way */
#define LONG_ENOUGH SECONDS(10) /* a sequencer that lived so long "ran" */
#define MAX_STARTING 4			/* sequencers that come up at a time */
#define FIRST_ROOM_DELAY OBX_MS(10)
#define LONGEST_ROOM_DELAY SECONDS(5)

typedef struct Database
{
	Oid			oid;			/* hash key */
	bool		listed;			/* exists, allows connections, is no template */
	bool		called;			/* asked for since its sequencer was started */
	TimestampTz start_at;		/* no sequencer before */
	TimestampTz waits_since;	/* for one; 0: does not */
	TimestampTz started_at;
	int64		delay;			/* after the last failure */
	int64		probe;			/* after the last look in vain */
} Database;

PGDLLEXPORT void obx_launcher_main(Datum arg);

static HTAB *databases;
static TimestampTz list_at = 0;
static int64 room_delay = 0;
static TimestampTz room_at = 0; /* no further try before */
static bool room_reported = false;
static bool turns_reported = false;
static ObxFailures list_failures = {.what = "could not list the databases"};

static Database *
find_database(Oid oid)
{
	bool		found;
	Database   *database = hash_search(databases, &oid, HASH_ENTER, &found);

	if (!found)
	{
		memset(database, 0, sizeof(Database));
		database->oid = oid;
	}
	return database;
}

/* obx_process_run's step */
static void
list_databases(void *arg)
{
	HASH_SEQ_STATUS status;
	Database   *database;
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	(void) GetTransactionSnapshot();

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		database->listed = false;

	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		/* -2 stands for a database whose removal was interrupted */
		if (form->datallowconn && !form->datistemplate && form->datconnlimit != -2)
			find_database(form->oid)->listed = true;
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
}

/* Its sequencer gave way: it gets one again when there is something to do. */
static void
note_rest(Database *database, const ObxSlot *slot, TimestampTz now)
{
	database->delay = database->probe = 0;
	database->start_at = Min(slot->needed_at, now + RESTING_PROBE);
	database->waits_since = slot->waits_since;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slot_set_starved(database->oid, now);
	LWLockRelease(obx_slots->lock);

	if (!turns_reported)
		ereport(LOG,
				(errmsg("pg_outbox: databases take turns, because there are not enough background worker processes"),
				 errdetail("Events are delivered later than they could be."),
				 errhint("Increase max_worker_processes; every database that has the extension needs two.")));
	turns_reported = true;
}

/* Learns from the end of a sequencer when its database needs the next one. */
static void
note_exit(Database *database, const ObxSlot *slot, TimestampTz now)
{
	ObxExit		exit = slot->exit;

	switch (exit)
	{
		case OBX_EXIT_GAVE_WAY:
			note_rest(database, slot, now);
			break;
		case OBX_EXIT_LEFT:
			database->delay = database->probe = 0;
			database->start_at = now;
			break;
		case OBX_EXIT_NOT_INSTALLED:
			database->delay = 0;
			database->probe = obx_backoff_next(database->probe, FIRST_PROBE, LONGEST_PROBE);
			database->start_at = now + database->probe;
			break;
		case OBX_EXIT_FAILED:
		case OBX_EXIT_REFUSED:
			if (database->started_at != 0 && now - database->started_at > LONG_ENOUGH)
				database->delay = 0;
			database->delay = obx_backoff_next(database->delay, FIRST_DELAY, LONGEST_DELAY);
			database->start_at = now + database->delay;
			break;
	}
	if (database->called)
	{
		database->called = false;
		database->probe = 0;
		if (exit == OBX_EXIT_NOT_INSTALLED)
			database->start_at = now;
	}
}

/* Frees the slots of sequencers that have ended, and of what they left behind. */
static void
collect_exits(TimestampTz now)
{
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		bool		ended = false;
		ObxSlot		copy = {0};

		LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
		if (slot->state == OBX_SLOT_EXITED)
		{
			ended = slot->role == OBX_ROLE_SEQUENCER;
			copy = *slot;
			if (ended || obx_slot_find_sequencer(copy.database) == NULL)
				obx_slot_free(slot);
		}
		LWLockRelease(obx_slots->lock);

		if (ended)
			note_exit(find_database(copy.database), &copy, now);
	}
}

/* A launcher that has been restarted cannot follow up the starts of its predecessor. */
static void
take_over(void)
{
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->state == OBX_SLOT_STARTING && slot->role == OBX_ROLE_SEQUENCER)
			obx_slot_free(slot);
	}
	obx_slots->launcher_starved_since = 0;
	memset(obx_slots->starved, 0, sizeof(obx_slots->starved));
	obx_slots->launcher_pid = MyProcPid;
	obx_slots->launcher_since = obx_clock_now();
	LWLockRelease(obx_slots->lock);
}

/* Asks everyone to leave whose database is gone, a template, or closed. */
static void
dismiss_unlisted(void)
{
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		Oid			oid = slot->database;	/* without the lock, hence again
											 * below */
		Database   *database = hash_search(databases, &oid, HASH_FIND, NULL);

		if (!obx_slot_is_live(slot) || (database != NULL && database->listed))
			continue;

		LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
		if (slot->database == oid)
			obx_slot_ask_to_leave(slot, OBX_LEAVE_NOW);
		LWLockRelease(obx_slots->lock);
	}
}

/* No worker process was free, or others are before us: asks for room, or waits. */
static TimestampTz
wait_for_room(bool behind, TimestampTz since, TimestampTz now)
{
	room_delay = obx_backoff_next(room_delay, FIRST_ROOM_DELAY, LONGEST_ROOM_DELAY);

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slots->launcher_starved_since = since;
	obx_slots->launcher_starved_tried = now;
	if (!behind)
		obx_room_make(InvalidOid, since, now);
	LWLockRelease(obx_slots->lock);

	if (!room_reported && room_delay == LONGEST_ROOM_DELAY)
	{
		room_reported = true;
		ereport(LOG,
				(errmsg("pg_outbox: no free background worker process for a sequencer"),
				 errhint("Increase max_worker_processes; every database that has the extension needs two.")));
	}
	room_at = now + room_delay;
	return room_at;
}

static void
end_starvation(void)
{
	room_delay = 0;
	room_at = 0;
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slots->launcher_starved_since = 0;
	LWLockRelease(obx_slots->lock);
}

/* A worker has gone: there may be room now, or in a moment. */
static void
note_room(void)
{
	static uint32 openings = 0;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	if (openings != obx_slots->openings && room_delay > 0)
	{
		room_delay = FIRST_ROOM_DELAY;
		room_at = 0;
	}
	openings = obx_slots->openings;
	LWLockRelease(obx_slots->lock);
}

/* Sequencers that have not come up yet. */
static int
count_starting(void)
{
	int			count = 0;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	for (int i = 0; i < obx_slots->nslots; i++)
		if (obx_slots->slots[i].role == OBX_ROLE_SEQUENCER &&
			obx_slot_is_live(&obx_slots->slots[i]) && !obx_slots->slots[i].connected)
			count++;
	LWLockRelease(obx_slots->lock);
	return count;
}

/*
 * The database that is to get its sequencer next: the one that waits longest,
 * and those that probably have no extension last.  NULL if none is due; *next
 * is when one will be.
 */
static Database *
find_due(TimestampTz now, TimestampTz *next)
{
	HASH_SEQ_STATUS status;
	Database   *database;
	Database   *best = NULL;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		bool		busy;

		LWLockAcquire(obx_slots->lock, LW_SHARED);
		busy = obx_slot_find_sequencer(database->oid) != NULL ||
			obx_slot_is_held(database->oid);
		LWLockRelease(obx_slots->lock);

		if (busy || !database->listed)
			continue;
		/* the clock may have been set back */
		database->start_at = Min(database->start_at, now + LONGEST_PROBE);
		if (database->start_at > now)
		{
			*next = Min(*next, database->start_at);
			continue;
		}
		if (database->waits_since == 0)
			database->waits_since = now;
		if (best == NULL ||
			(best->probe > 0) > (database->probe > 0) ||
			((best->probe > 0) == (database->probe > 0) &&
			 database->waits_since < best->waits_since))
			best = database;
	}
	return best;
}

/* Shows in outbox.worker of each database that waits what it lacks. */
static void
show_starved(void)
{
	HASH_SEQ_STATUS status;
	Database   *database;

	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
		if (database->waits_since != 0)
			obx_slot_set_starved(database->oid, database->waits_since);
	LWLockRelease(obx_slots->lock);
}

/* Whether somebody waits longer for a worker process than the database. */
static bool
is_behind(const Database *database, TimestampTz now)
{
	bool		behind;

	LWLockAcquire(obx_slots->lock, LW_SHARED);
	behind = obx_room_is_behind(database->waits_since, now);
	LWLockRelease(obx_slots->lock);
	return behind;
}

static bool
start_sequencer(Database *database, TimestampTz now)
{
	if (obx_slot_start(OBX_ROLE_SEQUENCER, database->oid, InvalidOid, database->waits_since) < 0)
		return false;
	database->called = false;
	database->started_at = now;
	database->waits_since = 0;
	return true;
}

/* Starts what is due; returns when the next round is. */
static TimestampTz
start_due(TimestampTz now)
{
	Database   *database;
	TimestampTz next = list_at;
	int			starting = count_starting();

	while ((database = find_due(now, &next)) != NULL)
	{
		bool		behind = is_behind(database, now);

		/* those who come up call us */
		if (starting >= MAX_STARTING)
			return next;
		if (room_at > now && database->probe == 0)
			return Min(next, room_at);
		if (!behind && start_sequencer(database, now))
			starting++;
		else if (database->probe > 0)
		{
			/* no worker should make room for a look that is likely in vain */
			database->start_at = now + FIRST_PROBE;
		}
		else
		{
			show_starved();
			return Min(next, wait_for_room(behind, database->waits_since, now));
		}
	}
	if (room_delay > 0)
		end_starvation();
	return next;
}

/* obx_doorbell_visit's: events were committed where no sequencer runs. */
static void
answer_ring(Oid oid, bool rung)
{
	Database   *database = hash_search(databases, &oid, HASH_FIND, NULL);

	if (rung && database != NULL && database->delay == 0)
	{
		database->probe = 0;
		database->start_at = Min(database->start_at, obx_clock_now());
	}
}

/* Databases that called (-1: all) are looked at now, whatever was seen there before. */
static void
answer_calls(const Oid *calls, int count, TimestampTz now)
{
	HASH_SEQ_STATUS status;
	Database   *database;

	obx_doorbell_visit(answer_ring);
	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		bool		called = count < 0;

		for (int i = 0; i < count; i++)
			called = called || calls[i] == database->oid;
		if (called && database->delay == 0)
		{
			database->called = true;
			database->probe = 0;
			database->start_at = now;
		}
	}
}

/* obx_doorbell_visit's: takes down what hangs for a database that is gone. */
static void
remove_bell(Oid oid, bool rung)
{
	bool		served;

	if (hash_search(databases, &oid, HASH_FIND, NULL) != NULL)
		return;
	LWLockAcquire(obx_slots->lock, LW_SHARED);
	served = obx_slot_find_sequencer(oid) != NULL;
	LWLockRelease(obx_slots->lock);
	if (!served)
		obx_doorbell_remove(oid);
}

/* Forgets databases that are gone and have no slot left. */
static void
forget_unlisted(void)
{
	HASH_SEQ_STATUS status;
	Database   *database;

	hash_seq_init(&status, databases);
	while ((database = hash_seq_search(&status)) != NULL)
	{
		if (database->listed)
			continue;
		LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
		obx_slot_set_starved(database->oid, 0);
		LWLockRelease(obx_slots->lock);
		hash_search(databases, &database->oid, HASH_REMOVE, NULL);
	}
	obx_doorbell_visit(remove_bell);
}

static void
stop_listening(int code, Datum arg)
{
	obx_doorbell_unlisten();
	LWLockReleaseAll();
	LWLockAcquire(obx_slots->lock, LW_EXCLUSIVE);
	obx_slots->launcher_pid = 0;
	LWLockRelease(obx_slots->lock);
}

/* One comparison of what should run with what runs. */
static TimestampTz
reconcile(void)
{
	TimestampTz now = obx_clock_now();
	Oid			calls[OBX_DOORBELL_CALLS];
	int			ncalls = obx_doorbell_collect(calls);

	/* after the calls, so that every database that called is in the list */
	if (obx_process_run(list_databases, NULL, &list_failures))
	{
		forget_unlisted();
		list_at = now + LIST_INTERVAL;
	}
	else
		list_at = list_failures.retry_at;

	obx_slot_reap();
	note_room();
	answer_calls(calls, ncalls, now);
	collect_exits(now);
	dismiss_unlisted();
	return start_due(now);
}

void
obx_launcher_main(Datum arg)
{
	HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Database)};

	before_shmem_exit(stop_listening, (Datum) 0);
	obx_process_connect(InvalidOid, InvalidOid, "pg_outbox launcher");
	databases = hash_create("pg_outbox databases", 64, &control, HASH_ELEM | HASH_BLOBS);
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "pg_outbox launcher",
												ALLOCSET_DEFAULT_SIZES));
	take_over();
	obx_doorbell_listen();
	ereport(DEBUG1, (errmsg_internal("pg_outbox: launcher started")));

	for (;;)
	{
		TimestampTz next;

		obx_process_check();
		next = reconcile();
		MemoryContextReset(CurrentMemoryContext);
		obx_process_wait(next);
	}
}
