/*
 * Dropping what nobody needs any more.
 */
#ifndef OBX_RETENTION_H
#define OBX_RETENTION_H

#include "datatype/timestamp.h"

/*
 * Tells the first position that some subscription still needs; whoever makes
 * that an earlier one keeps ROW SHARE on outbox.event until it is committed.
 */
typedef int64 (*ObxRetentionFloor) (void);

/*
 * Drops every partition whose events are all past retention and past every
 * subscription (or past max_retention), and the segments over them.  Runs DDL
 * in the current transaction, waits for no lock: what is in use is left for
 * the next time.  Returns how many partitions went.
 */
extern int	obx_retention_apply(ObxRetentionFloor needed_from);

/* Where a round of steps stands; zeroed at first. */
typedef struct ObxRetentionRound
{
	bool		begun;
	TimestampTz passed;			/* partitions up to this bound had their turn */
	int64		forgotten;		/* segments before this position are deleted */
} ObxRetentionRound;

/*
 * The same in small steps, each in a transaction of its own: one partition, or
 * a number of segments.  Returns whether there may be more to do; if not, the
 * round is over, and zeroed.
 */
extern bool obx_retention_step(ObxRetentionRound *round, ObxRetentionFloor needed_from);

#endif							/* OBX_RETENTION_H */
