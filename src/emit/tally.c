/*
 * Counting the events that the current transaction has written.
 *
 * The sequencer must know how many events a transaction has.  To count a
 * million takes half a second, in which nobody gets a position.  The writer
 * can count them in passing: so a transaction that has written many leaves the
 * number in a row of outbox.tally, just before it commits or is prepared.
 *
 * The number must be exact: it counts what will be visible.  Hence each level of
 * subtransactions has a count of its own, which goes to the parent with a
 * commit and away with an abort.  What decides whether there is a row is the
 * number of events ever written: rows that were rolled back would be stepped
 * over one by one, too.  Events that are written after the row, by another
 * callback of the commit, get a row of their own at once, which a rollback to
 * a savepoint takes along like the events; rows add up.
 *
 * A transaction without a row is counted by its events.  Must not know the
 * buffer, nor who reads.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "catalog/names.h"
#include "emit/tally.h"
#include "log/generation.h"

/* So many events are as quickly counted. */
#ifndef OBX_TALLIED_EVENTS
#define OBX_TALLIED_EVENTS 1000
#endif

/* A subtransaction that has written events. */
typedef struct Level
{
	SubTransactionId subxact;
	ObxTally	tally;
	struct Level *outer;		/* NULL for none */
} Level;

static Level *innermost = NULL; /* in TopTransactionContext, but for: */
static Level top;				/* that of the transaction itself, mostly */
static int64 written = 0;		/* also by subtransactions that were aborted */
static bool is_noted = false;	/* there is a row */
static Oid	log = InvalidOid;	/* OID of the outbox.event that is written to */
static bool is_given_up = false;	/* there are two logs: events are counted */

static void
insert_row(const ObxTally *tally)
{
	ObxTally	row = *tally;

	row.xid = obx_generation_own_xid();
	obx_tally_insert(&row);
}

static Level *
require_level(SubTransactionId subxact)
{
	Level	   *level = innermost;

	/* subtransactions of this one have ended */
	if (likely(level != NULL && level->subxact == subxact))
		return level;
	if (subxact == TopSubTransactionId)
	{
		level = &top;
		memset(level, 0, sizeof(Level));
	}
	else
		level = MemoryContextAllocZero(TopTransactionContext, sizeof(Level));
	level->subxact = subxact;
	level->outer = innermost;
	innermost = level;
	return level;
}

void
obx_tally_count(const ObxTally *more)
{
	Oid			now = obx_object_require(OBX_EVENT);

	/* the extension was dropped and created in this transaction */
	is_given_up = is_given_up || (log != now && written > 0);
	log = now;
	written += more->events;
	if (unlikely(is_noted))
		insert_row(more);
	else
		obx_tally_add(&require_level(GetCurrentSubTransactionId())->tally, more);
}

void
obx_tally_note(void)
{
	static const ObxTally none = {0};

	if (written < OBX_TALLIED_EVENTS || is_noted || is_given_up)
		return;
	/* the extension was dropped, and perhaps created, after the last event */
	if (!OidIsValid(obx_extension_find()) || obx_object_require(OBX_EVENT) != log)
		return;
	Assert(innermost == NULL || innermost->outer == NULL);
	insert_row(innermost != NULL ? &innermost->tally : &none);
	is_noted = true;
}

void
obx_tally_end_subtransaction(SubTransactionId subxact, SubTransactionId parent, bool aborted)
{
	Level	   *level = innermost;

	if (level == NULL || level->subxact != subxact)
		return;
	if (!aborted && (level->outer == NULL || level->outer->subxact != parent))
	{
		level->subxact = parent;
		return;
	}
	if (!aborted)
		obx_tally_add(&level->outer->tally, &level->tally);
	innermost = level->outer;
	pfree(level);
}

void
obx_tally_forget(void)
{
	innermost = NULL;
	written = 0;
	is_noted = is_given_up = false;
}
