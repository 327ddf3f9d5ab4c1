/*
 * Housekeeping: steps that keep a database's log in order.
 */
#ifndef OBX_HOUSEKEEPING_H
#define OBX_HOUSEKEEPING_H

#include "datatype/timestamp.h"

/*
 * How far a database has come.  One that pg_restore is at work in must be left
 * alone: partitions could take the place of those to come, and what is not
 * filled yet looks empty.
 */
typedef enum ObxStage
{
	OBX_STAGE_LOADING,			/* the log may be half loaded */
	OBX_STAGE_UNUSED,			/* it is not, but a load may begin */
	OBX_STAGE_IN_USE,			/* likewise, and it has a subscription, or
								 * positions; those are restored when all
								 * partitions are there */
	OBX_STAGE_SETTLED,			/* nothing is loaded any more, and the last
								 * round could give positions; which takes the
								 * indexes, that are restored last */
	OBX_STAGE_POSITIONED		/* and it has some */
} ObxStage;

/*
 * Does what is due and may be done at this stage, each thing in a transaction
 * of its own; returns when next.
 */
extern TimestampTz obx_housekeeping_run(ObxStage stage);

/*
 * Does everything there is to do, at once and to the end, for outbox.run();
 * "commit" ends the transaction after each step.  An error ends it.
 */
extern void obx_housekeeping_finish(void (*commit) (void));

/* Subscriptions may have gone: what they left is cleaned up the next time. */
extern void obx_housekeeping_clean_remnants(void);

#endif							/* OBX_HOUSEKEEPING_H */
