/*
 * Room: which worker gives way when the server's worker processes run out.
 *
 * They are few, other users take from them too (parallel queries, logical
 * replication), and the number of free ones is not known: only a failed attempt
 * to start a worker shows that there is none.  A process whose attempt failed
 * waits in line, ordered by the time since when it waits, and asks one of our
 * workers to leave, the first that exists of
 *
 *     a dispatcher with nothing to do,
 *     a sequencer with nothing to do,
 *     a sequencer that itself waits for a dispatcher, for less long,
 *     a dispatcher of a database that has more of them,
 *     all workers of a database whose turn is over.
 *
 * So a sequencer never keeps the last process from a dispatcher.  A database
 * whose sequencer gave way gets one again when it is rung, or when something is
 * due in it (launcher.c).
 *
 * All functions run under obx_slots->lock: they allocate and report nothing.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "worker/queue.h"
#include "worker/room.h"
#include "worker/slot.h"

/* A process whose last attempt is older than this lets others try. */
#define STALE_TRY OBX_MS(250)

/* The postmaster needs this long to notice that a process has ended. */
#define POSTMASTER_DELAY OBX_MS(10)

/* A worker that has not left after this time is in the middle of something long. */
#define PATIENCE OBX_MS(250)

/* A sequencer that started longer ago than this waits for nothing any more. */
#define LONGEST_COMING OBX_MS(1000)

/* A database with work to do keeps its workers at least this long. */
#define DATABASE_TURN OBX_MS(500)

bool
obx_room_is_behind(TimestampTz since, TimestampTz now)
{
	ObxAssertShared();
	/* the launcher has no slot */
	if (obx_slot_own != NULL && obx_slots->launcher_starved_since != 0 &&
		obx_slots->launcher_starved_since < since &&
		obx_slots->launcher_starved_tried > now - STALE_TRY)
		return true;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot == obx_slot_own || slot->role != OBX_ROLE_SEQUENCER ||
			!obx_slot_is_live(slot) || slot->leave != OBX_LEAVE_NOT)
			continue;
		if (slot->starved_since != 0 && slot->starved_since < since &&
			slot->starved_tried > now - STALE_TRY)
			return true;
		/* it was started for some work, and will need a dispatcher for that */
		if (obx_slots->scarce_at > now - LONGEST_COMING &&
			slot->starved_since == 0 && slot->waits_since != 0 && slot->waits_since < since &&
			(slot->pid == 0 ? slot->since : slot->attached_at) > now - LONGEST_COMING)
			return true;
	}
	return false;
}

/* Was a worker asked to leave just now? */
static bool
is_anybody_leaving(TimestampTz now)
{
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (obx_slot_is_live(slot) && slot->leave != OBX_LEAVE_NOT &&
			slot->leave_since > now - PATIENCE)
			return true;
	}
	return false;
}

/* Live dispatchers of the database. */
static int
count_dispatchers(Oid database)
{
	int			count = 0;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->database == database &&
			obx_slot_is_live(slot) && slot->leave == OBX_LEAVE_NOT)
			count++;
	}
	return count;
}

/* Does a lane of the database wait for a dispatcher, or is one served? */
static bool
has_work(Oid database)
{
	for (int i = 0; i < obx_queue->used; i++)
	{
		const ObxQueuedLane *lane = &obx_queue->lanes[i];

		if (lane->database == database &&
			(lane->state == OBX_QUEUED_READY || lane->state == OBX_QUEUED_RUNNING))
			return true;
	}
	return false;
}

/* ---- the first to give way ---- */

/* The process that is needed; see obx_room_make(). */
typedef struct Request
{
	Oid			database;		/* InvalidOid for a sequencer */
	TimestampTz since;
	TimestampTz now;
	int			own;			/* dispatchers that the database is entitled
								 * to */
} Request;

/* The slot with the lowest rank gives way. */
typedef struct Rank
{
	int64		first;
	int64		second;
} Rank;

/* Of a live slot that was not asked to leave: false if it need not give way. */
typedef bool (*RankSlot) (const ObxSlot *slot, const Request *request, Rank *rank);

static ObxSlot *
find_first(RankSlot rank_slot, const Request *request)
{
	ObxSlot    *best = NULL;
	Rank		best_rank = {0};

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		Rank		rank = {0};

		if (!obx_slot_is_live(slot) || slot->leave != OBX_LEAVE_NOT ||
			!rank_slot(slot, request, &rank))
			continue;
		if (best == NULL || rank.first < best_rank.first ||
			(rank.first == best_rank.first && rank.second < best_rank.second))
		{
			best = slot;
			best_rank = rank;
		}
	}
	return best;
}

/* A dispatcher with nothing to do: of the database that has most, the laziest. */
static bool
rank_idle_dispatcher(const ObxSlot *slot, const Request *request, Rank *rank)
{
	if (slot->role != OBX_ROLE_DISPATCHER || slot->state != OBX_SLOT_IDLE)
		return false;
	rank->first = -count_dispatchers(slot->database);
	rank->second = slot->since;
	return true;
}

/* A sequencer of another database that slept through its last round. */
static bool
rank_idle_sequencer(const ObxSlot *slot, const Request *request, Rank *rank)
{
	if (slot->role != OBX_ROLE_SEQUENCER || slot->state != OBX_SLOT_IDLE ||
		slot->database == request->database || slot->starved_since != 0 ||
		has_work(slot->database))
		return false;
	rank->first = slot->worked_at;
	return true;
}

/* Of the sequencers that have no dispatcher and have waited for less long, the last. */
static bool
rank_later_sequencer(const ObxSlot *slot, const Request *request, Rank *rank)
{
	if (slot->role != OBX_ROLE_SEQUENCER || !slot->connected ||
		slot->database == request->database || slot->starved_since <= request->since ||
		count_dispatchers(slot->database) > 0)
		return false;
	rank->first = -slot->starved_since;
	return true;
}

/* A busy dispatcher of the database that has most, and more than "own". */
static bool
rank_busy_dispatcher(const ObxSlot *slot, const Request *request, Rank *rank)
{
	if (slot->role != OBX_ROLE_DISPATCHER || slot->state != OBX_SLOT_BUSY ||
		slot->database == request->database)
		return false;
	rank->first = -count_dispatchers(slot->database);
	rank->second = slot->since;
	return -rank->first > request->own;
}

/* The sequencer of the database that has had its workers longest, if long enough. */
static bool
rank_served_sequencer(const ObxSlot *slot, const Request *request, Rank *rank)
{
	if (slot->role != OBX_ROLE_SEQUENCER || !slot->connected ||
		slot->attached_at > request->now - DATABASE_TURN)
		return false;
	rank->first = slot->attached_at;
	return true;
}

/* With the sequencer its lanes go, so the dispatchers would find nothing to do. */
static void
dismiss_database(ObxSlot *sequencer)
{
	obx_slot_ask_to_leave(sequencer, OBX_LEAVE_ROOM);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role == OBX_ROLE_DISPATCHER && slot->database == sequencer->database)
			obx_slot_ask_to_leave(slot, OBX_LEAVE_TURN);
	}
}

void
obx_room_make(Oid database, TimestampTz since, TimestampTz now)
{
	bool		sequencer = !OidIsValid(database);
	Request		request = {.database = database,.since = since,.now = now};
	ObxSlot    *slot;

	ObxAssertLocked();
	if (obx_slots->left_at > now - POSTMASTER_DELAY || is_anybody_leaving(now))
		return;
	request.own = sequencer ? 1 : count_dispatchers(database);
	if ((slot = find_first(rank_idle_dispatcher, &request)) != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_TURN);
	else if ((slot = find_first(rank_idle_sequencer, &request)) != NULL ||
			 (slot = find_first(rank_later_sequencer, &request)) != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_ROOM);
	else if ((slot = find_first(rank_busy_dispatcher, &request)) != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_TURN);
	else if (sequencer && (slot = find_first(rank_served_sequencer, &request)) != NULL)
		dismiss_database(slot);
}
