/*
 * Hand-outs whose transactions were undone.
 *
 * When the transaction of a hand-out without a lease rolls back, because the
 * consumer asked for it or because its session ended, nothing is left in
 * tables.  So the rollback is noted in shared memory, and the next consumer
 * that receives from the lane writes the consequences: they take effect when
 * its transaction commits, and the notes stay until then.  They do not survive
 * the server, which may have been the cause.
 *
 * A lane has one note of several events, the last one, and one of each event
 * that was alone: its transaction may be undone again before the attempts of
 * it are written.
 *
 * Locks: that of the notes, for copying.  Where the library is not preloaded,
 * a session knows its own.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "catalog/delivery.h"
#include "catalog/names.h"
#include "pull/blame.h"
#include "pull/collect.h"
#include "pull/undone.h"

/* Of all databases; the oldest gives way. */
#define NOTES 256

/* Lanes that one transaction receives from; of those beyond nothing is noted. */
#define LANES 64

/* Attempts of one event that are written at a time. */
#define ENDS_AT_ONCE 100

typedef struct Note
{
	Oid			database;		/* InvalidOid: free */
	Oid			table;			/* of subscriptions: an extension that is made
								 * again begins their numbers anew */
	int32		subscription;
	int32		lane;
	int64		position;		/* the first that was left */
	int			count;
	int			ends;			/* transactions that were undone, if it is one */
	TimestampTz time;
} Note;

typedef struct Notes
{
	Note		notes[NOTES];
} Notes;

static Notes own_notes;
static Notes *shared = NULL;

static void initialize_notes(void *region, LWLockPadded *locks);

static ObxRegion note_region = {
	.name = "pg_outbox undone hand-outs",
	.size = sizeof(Notes),
	.locks = 1,
	.address = (void **) &shared,
	.initialize = initialize_notes
};

/* What the transaction has received, and what it writes of the notes. */
static Note received[LANES];
static Note total[LANES];		/* of each, as it was before acks */
static int	nreceived = 0;
static Note blamed[LANES];
static int	nblamed = 0;

static void
initialize_notes(void *region, LWLockPadded *locks)
{
	memset(region, 0, sizeof(Notes));
}

/* ---- the notes ---- */

static Notes *
lock_notes(LWLockMode mode)
{
	if (shared == NULL)
		return &own_notes;
	LWLockAcquire(&obx_shmem_locks(&note_region)[0].lock, mode);
	return shared;
}

static void
unlock_notes(void)
{
	if (shared != NULL)
		LWLockRelease(&obx_shmem_locks(&note_region)[0].lock);
}

static bool
is_of_lane(const Note *note, Oid table, int32 subscription, int32 lane)
{
	return note->database == MyDatabaseId && note->table == table &&
		note->subscription == subscription && note->lane == lane;
}

/* Of the same events: of several, those noted last. */
static bool
is_same(const Note *note, const Note *other)
{
	if (!is_of_lane(note, other->table, other->subscription, other->lane))
		return false;
	return other->count == 1 ? note->count == 1 && note->position == other->position :
		note->count > 1;
}

static void
add_note(Notes *notes, const Note *new)
{
	Note	   *place = &notes->notes[0];
	int			ends = 0;

	for (int i = 0; i < NOTES; i++)
	{
		Note	   *note = &notes->notes[i];

		if (is_same(note, new))
		{
			ends = note->ends;
			place = note;
			break;
		}
		if (OidIsValid(place->database) &&
			(!OidIsValid(note->database) || note->time < place->time))
			place = note;
	}
	*place = *new;
	place->ends = ends + 1;
}

/* So many of its ends are written. */
static void
count_written(Notes *notes, const Note *written)
{
	for (int i = 0; i < NOTES; i++)
	{
		Note	   *note = &notes->notes[i];

		if (!is_same(note, written))
			continue;
		note->ends -= Min(written->ends, note->ends);
		if (note->ends == 0 || note->count > 1)
			note->database = InvalidOid;
	}
}

/* ---- the transaction ---- */

static void
end_transaction(XactEvent event, void *arg)
{
	Notes	   *notes;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if ((event == XACT_EVENT_ABORT && nreceived > 0) ||
		(event == XACT_EVENT_COMMIT && nblamed > 0))
	{
		notes = lock_notes(LW_EXCLUSIVE);
		if (event == XACT_EVENT_COMMIT)
			for (int i = 0; i < nblamed; i++)
				count_written(notes, &blamed[i]);
		else
			for (int i = 0; i < nreceived; i++)
				add_note(notes, received[i].count > 0 ? &received[i] : &total[i]);
		unlock_notes();
	}
	nreceived = nblamed = 0;
}

void
obx_undone_init(void)
{
	obx_shmem_register(&note_region);
	RegisterXactCallback(end_transaction, NULL);
}

static int
find_received(const ObxProgress *progress)
{
	Oid			table = obx_object_require(OBX_SUBSCRIPTION);

	for (int i = 0; i < nreceived; i++)
		if (is_of_lane(&received[i], table, progress->subscription, progress->lane))
			return i;
	return -1;
}

static Note
make_note(const ObxProgress *progress)
{
	Note		note = {
		.database = MyDatabaseId,
		.table = obx_object_require(OBX_SUBSCRIPTION),
		.subscription = progress->subscription,
		.lane = progress->lane,
		.count = obx_pull_lane_handed(progress),
		.time = GetCurrentTimestamp()
	};

	if (note.count > 0)
		note.position = obx_blame_first(progress);
	return note;
}

void
obx_undone_note(const ObxProgress *progress)
{
	int			place = find_received(progress);

	if (place < 0 && nreceived == LANES)
		return;
	if (place < 0)
		place = nreceived++;
	received[place] = total[place] = make_note(progress);
}

void
obx_undone_follow(const ObxProgress *progress)
{
	int			place = find_received(progress);

	/* what a savepoint may undo leaves all of it in doubt */
	if (place >= 0)
		received[place] = GetCurrentTransactionNestLevel() == 1 ? make_note(progress) :
			total[place];
}

void
obx_undone_forget(const ObxProgress *progress)
{
	int			place = find_received(progress);

	if (place < 0)
		return;
	nreceived--;
	received[place] = received[nreceived];
	total[place] = total[nreceived];
}

/* ---- blaming ---- */

/* What this transaction has not written yet of the note's ends. */
static int
count_ends(const Note *note)
{
	int			ends = note->ends;

	for (int i = 0; i < nblamed; i++)
		if (is_same(&blamed[i], note))
			ends = note->count > 1 ? 0 : ends - blamed[i].ends;
	return Max(ends, 0);
}

static int
list_notes(const ObxProgress *progress, Note *list)
{
	Oid			table = obx_object_require(OBX_SUBSCRIPTION);
	Notes	   *notes = lock_notes(LW_SHARED);
	int			count = 0;

	for (int i = 0; i < NOTES && count < LANES; i++)
	{
		Note	   *note = &list[count];

		*note = notes->notes[i];
		if (!is_of_lane(note, table, progress->subscription, progress->lane))
			continue;
		note->ends = count_ends(note);
		if (note->ends > 0)
			count++;
	}
	unlock_notes();
	return count;
}

static int
compare_notes(const void *a, const void *b)
{
	int64		one = ((const Note *) a)->position;
	int64		other = ((const Note *) b)->position;

	return one < other ? -1 : one > other ? 1 : 0;
}

/* One attempt of an event that is owed, or has a row; false if it is dealt with. */
static bool
blame_once(ObxPullLane *work, int64 position, TimestampTz ended)
{
	ObxProgress *progress = &work->progress;
	int			place = obx_positions_find(&progress->owed, progress->owed.count, position);
	ObxDelivery *delivery = NULL;

	if (place >= 0)
		progress->nhanded = place + 1;
	else
	{
		delivery = obx_delivery_find(progress->subscription, position);
		if (delivery == NULL || delivery->state == OBX_DELIVERY_DEAD ||
			delivery->lane != progress->lane)
			return false;
		obx_positions_add(&progress->retries, &position, 1);
	}
	obx_blame_event(work, position, ended);
	progress->nhanded = 0;
	obx_positions_set(&progress->retries, NULL, 0);
	return true;
}

/*
 * Blames the event of a note; false if the lane may not come to it yet.  What
 * is not there any more was dealt with.
 */
static bool
blame_one(ObxPullLane *work, const Note *note)
{
	int			ends = Min(note->ends, ENDS_AT_ONCE);

	if (!obx_collect_read_to(work, note->position))
		return false;
	for (int i = 0; i < ends && blame_once(work, note->position, note->time); i++)
		work->changed = true;
	return true;
}

void
obx_undone_blame(ObxPullLane *work)
{
	Note		notes[LANES];
	int			count = list_notes(&work->progress, notes);

	if (count == 0)
		return;
	qsort(notes, count, sizeof(Note), compare_notes);
	obx_pull_lane_load(work);
	for (int i = 0; i < count; i++)
	{
		if (notes[i].count > 1)
			obx_blame_several(work, notes[i].position, notes[i].count, notes[i].time);
		else if (!blame_one(work, &notes[i]))
			continue;
		if (nblamed < LANES)
			blamed[nblamed++] = notes[i];
	}
}
