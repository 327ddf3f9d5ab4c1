/*
 * Dropping partitions that no subscription needs.
 */
#ifndef OBX_RETENTION_H
#define OBX_RETENTION_H

#include "datatype/timestamp.h"

/*
 * Returns the first position that a subscription still needs.  A session that
 * makes this position earlier holds ROW SHARE on outbox.event until it
 * commits.
 */
typedef int64 (*ObxRetentionFloor) (void);

/*
 * Drops every partition whose events are all past retention and past every
 * subscription (or past max_retention), and their segments.  Runs DDL in the
 * current transaction and waits for no lock: a partition in use is left for
 * the next time.  Returns the number of dropped partitions.
 */
extern int	obx_retention_apply(ObxRetentionFloor needed_from);

/* The state of a round of steps; zeroed at first. */
typedef struct ObxRetentionRound
{
	bool		begun;
	TimestampTz passed;			/* partitions up to this bound had their turn */
	int64		forgotten;		/* segments before this position are deleted */
} ObxRetentionRound;

/*
 * Like the function above, in small steps, each in a separate transaction: one
 * partition, or a number of segments.  Returns whether there may be more to
 * do; if not, the round is over, and zeroed.
 */
extern bool obx_retention_step(ObxRetentionRound *round, ObxRetentionFloor needed_from);

#endif							/* OBX_RETENTION_H */
