/*
 * Giving positions: appending segments to the log.
 */
#ifndef OBX_SEQUENCER_H
#define OBX_SEQUENCER_H

#include "log/xid_snapshot.h"

typedef struct ObxSequenced
{
	int64		head;			/* the last position given */
	int64		events;			/* that have been given theirs now */
	int64		transactions;	/* of those */
} ObxSequenced;

/*
 * Gives positions to every event whose transaction has ended and that has none
 * yet.  Must be the first thing a READ COMMITTED transaction does, without an
 * active snapshot; writes segments only (no xid is taken when there is
 * nothing to append), and sets synchronous_commit = on for this transaction.
 * The caller commits and only then may tell anyone.
 *
 * Waits for another sequencer's transaction if "wait", else returns false when
 * one is at work.
 */
extern bool obx_sequencer_append(bool wait, ObxSequenced *result);

/*
 * Is there an event without a position, of a transaction that "upto" regards
 * as ended, other than "own"?  Reads with a new snapshot.
 */
extern bool obx_sequencer_is_behind(const ObxXidSnapshot *upto, uint64 own);

#endif							/* OBX_SEQUENCER_H */
