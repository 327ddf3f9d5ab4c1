/*
 * Rows of outbox.tally: how many events a transaction of many has.
 */
#ifndef OBX_TALLY_ROW_H
#define OBX_TALLY_ROW_H

#include "datatype/timestamp.h"
#include "utils/snapshot.h"

/* Some events of one transaction; of no events, all but "xid" is 0. */
typedef struct ObxTally
{
	uint64		xid;			/* in the log's ids */
	int64		events;
	int64		min_id;
	int64		max_id;
	TimestampTz min_time;
	TimestampTz max_time;
} ObxTally;

/* Adds the events of another one. */
static inline void
obx_tally_add(ObxTally *tally, const ObxTally *more)
{
	if (more->events == 0)
		return;
	if (tally->events == 0)
	{
		uint64		xid = tally->xid;

		*tally = *more;
		tally->xid = xid;
		return;
	}
	tally->events += more->events;
	tally->min_id = Min(tally->min_id, more->min_id);
	tally->max_id = Max(tally->max_id, more->max_id);
	tally->min_time = Min(tally->min_time, more->min_time);
	tally->max_time = Max(tally->max_time, more->max_time);
}

/* A transaction may have several rows: together they are its events. */
extern void obx_tally_insert(const ObxTally *tally);

typedef void (*ObxTallyVisitor) (const ObxTally *tally, void *arg);

/*
 * Shows the rows with from <= xid < to that the snapshot sees, and deletes them.
 * The caller holds the lock for sequencing.
 */
extern void obx_tally_take(uint64 from, uint64 to, Snapshot snapshot, ObxTallyVisitor visit,
						   void *arg);

#endif							/* OBX_TALLY_ROW_H */
