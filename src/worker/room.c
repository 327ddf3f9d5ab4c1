/*
 * Room: who gives way when the server's worker processes run out.
 *
 * They are few, others take from them too (parallel queries, logical
 * replication), and nobody says how many there are: that there is none is found
 * out by asking for one.  Who has found none waits in line, by the time since
 * when it waits, and has one of us leave, the first there is of
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
 * All under obx_slots->lock, where nothing is allocated or reported.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "worker/queue.h"
#include "worker/room.h"
#include "worker/slot.h"

/* Who tried before that lets others try. */
#define STALE_TRY OBX_MS(250)

/* A process that has ended is free when the postmaster has seen it. */
#define POSTMASTER_DELAY OBX_MS(10)

/* Who was asked to leave before that is in the middle of something long. */
#define PATIENCE OBX_MS(250)

/* A sequencer that was started before that waits for nothing any more. */
#define LONGEST_COMING OBX_MS(1000)

/* So long a database with work to do keeps its workers at least. */
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
		/* it came for something, and will want a dispatcher for that */
		if (obx_slots->scarce_at > now - LONGEST_COMING &&
			slot->starved_since == 0 && slot->waits_since != 0 && slot->waits_since < since &&
			(slot->pid == 0 ? slot->since : slot->attached_at) > now - LONGEST_COMING)
			return true;
	}
	return false;
}

/* Whether somebody was asked to leave just now. */
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

/* Whether a lane of the database waits for a dispatcher, or is served. */
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

/* A dispatcher with nothing to do: of the database that has most, the laziest. */
static ObxSlot *
find_idle_dispatcher(void)
{
	ObxSlot    *best = NULL;
	int			best_count = 0;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		int			count;

		if (slot->role != OBX_ROLE_DISPATCHER || slot->state != OBX_SLOT_IDLE ||
			slot->leave != OBX_LEAVE_NOT)
			continue;
		count = count_dispatchers(slot->database);
		if (best == NULL || count > best_count ||
			(count == best_count && slot->since < best->since))
		{
			best = slot;
			best_count = count;
		}
	}
	return best;
}

/* A sequencer, not of that database, that slept through its last round. */
static ObxSlot *
find_idle_sequencer(Oid database)
{
	ObxSlot    *best = NULL;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role != OBX_ROLE_SEQUENCER || slot->state != OBX_SLOT_IDLE ||
			slot->leave != OBX_LEAVE_NOT || slot->database == database ||
			slot->starved_since != 0 || has_work(slot->database))
			continue;
		if (best == NULL || slot->worked_at < best->worked_at)
			best = slot;
	}
	return best;
}

/* Of the sequencers that have no dispatcher and wait since later, the last. */
static ObxSlot *
find_later_sequencer(Oid database, TimestampTz since)
{
	ObxSlot    *best = NULL;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role != OBX_ROLE_SEQUENCER || !obx_slot_is_live(slot) || !slot->connected ||
			slot->leave != OBX_LEAVE_NOT || slot->database == database ||
			slot->starved_since <= since || count_dispatchers(slot->database) > 0)
			continue;
		if (best == NULL || slot->starved_since > best->starved_since)
			best = slot;
	}
	return best;
}

/* A busy dispatcher of the database that has most, and more than "own". */
static ObxSlot *
find_busy_dispatcher(Oid database, int own)
{
	ObxSlot    *best = NULL;
	int			best_count = own;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];
		int			count;

		if (slot->role != OBX_ROLE_DISPATCHER || slot->state != OBX_SLOT_BUSY ||
			slot->leave != OBX_LEAVE_NOT || slot->database == database)
			continue;
		count = count_dispatchers(slot->database);
		if (count > best_count ||
			(count == best_count && best != NULL && slot->since < best->since))
		{
			best = slot;
			best_count = count;
		}
	}
	return best;
}

/* The sequencer of the database that has had its workers longest, if long enough. */
static ObxSlot *
find_served_sequencer(TimestampTz now)
{
	ObxSlot    *best = NULL;

	for (int i = 0; i < obx_slots->nslots; i++)
	{
		ObxSlot    *slot = &obx_slots->slots[i];

		if (slot->role != OBX_ROLE_SEQUENCER || !obx_slot_is_live(slot) || !slot->connected ||
			slot->leave != OBX_LEAVE_NOT || slot->attached_at > now - DATABASE_TURN)
			continue;
		if (best == NULL || slot->attached_at < best->attached_at)
			best = slot;
	}
	return best;
}

/* Its dispatchers would find nothing to do, since the lanes go with it. */
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
	ObxSlot    *slot;

	ObxAssertLocked();
	if (obx_slots->left_at > now - POSTMASTER_DELAY || is_anybody_leaving(now))
		return;
	if ((slot = find_idle_dispatcher()) != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_TURN);
	else if ((slot = find_idle_sequencer(database)) != NULL ||
			 (slot = find_later_sequencer(database, since)) != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_ROOM);
	else if ((slot = find_busy_dispatcher(database, sequencer ? 1 :
										  count_dispatchers(database))) != NULL)
		obx_slot_ask_to_leave(slot, OBX_LEAVE_TURN);
	else if (sequencer && (slot = find_served_sequencer(now)) != NULL)
		dismiss_database(slot);
}
