/*
 * The doorbell: how a commit wakes its database's sequencer.
 *
 * A ring is a hint, never the truth: whoever sleeps also wakes on a timer.
 * Rings happen after the transaction has left the list of running ones, so
 * that the sequencer's snapshot sees it, and they cannot fail.
 */
#ifndef OBX_DOORBELL_H
#define OBX_DOORBELL_H

#include "datatype/timestamp.h"

/* From _PG_init: shared memory and the transaction callback. */
extern void obx_doorbell_init(void);

/* For everyone who changes something in a transaction. */

/* The current transaction emitted events: ring when it commits. */
extern void obx_doorbell_arm(void);

/* The current transaction scheduled an event for that time. */
extern void obx_doorbell_arm_due(TimestampTz due);

/*
 * The current transaction changed what the workers must know (extension
 * created, subscription added, altered, resumed, sought): when it commits,
 * they read it anew.  Wakes the launcher too where no sequencer runs.
 */
extern void obx_doorbell_arm_configuration(void);

/* Wakes our database's sequencer now; nothing was emitted. */
extern void obx_doorbell_nudge(void);

/* The current transaction contains a COMMIT PREPARED. */
extern void obx_doorbell_arm_prepared(void);

/* The current transaction changed the list of databases. */
extern void obx_doorbell_arm_launcher(void);

/*
 * For the sequencer: it hangs up its database's bell, leaves it hanging, or
 * takes it down, which says whether it was rung meanwhile.
 */
extern void obx_doorbell_open(void);
extern void obx_doorbell_leave(void);
extern bool obx_doorbell_close(void);

/* Lowers the flag and says whether it was up; before looking, never after. */
extern bool obx_doorbell_clear(void);

/*
 * The earliest time of what was scheduled since the last call, DT_NOEND for
 * nothing; after lowering the flag.
 */
extern TimestampTz obx_doorbell_take_due(void);

/* Changes with every change of configuration. */
extern uint32 obx_doorbell_configuration(void);

/* For the launcher: whom configuration rings without a sequencer wake. */
extern void obx_doorbell_listen(void);
extern void obx_doorbell_unlisten(void);

/*
 * Takes the databases in which something asked for a sequencer, at most
 * OBX_DOORBELL_CALLS of them; returns their number, or -1 for "any may have".
 */
#define OBX_DOORBELL_CALLS 16
extern int	obx_doorbell_collect(Oid *databases);

/*
 * For the launcher: calls visit() for each bell that hangs without a sequencer;
 * and takes down that of a database, which must have none.
 */
extern void obx_doorbell_visit(void (*visit) (Oid database, bool rung));
extern void obx_doorbell_remove(Oid database);

/* Wakes the launcher; "database" is worth a look, InvalidOid for none. */
extern void obx_doorbell_call(Oid database);

#endif							/* OBX_DOORBELL_H */
