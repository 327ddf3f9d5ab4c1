/*
 * The doorbell: how a commit wakes its database's sequencer.
 *
 * A ring is a hint, never the truth: whoever sleeps also wakes on a timer.
 * Rings happen after the transaction has left the list of running ones, so
 * that the sequencer's snapshot sees it, and they cannot fail.
 */
#ifndef OBX_DOORBELL_H
#define OBX_DOORBELL_H

/* From _PG_init: shared memory and the transaction callback. */
extern void obx_doorbell_init(void);

/* The current transaction emitted events: ring when it commits. */
extern void obx_doorbell_arm(void);

/*
 * The current transaction changed what the workers must know (extension
 * created, subscription added, altered, resumed, sought): when it commits,
 * they read it anew.  Wakes the launcher too where no sequencer runs.
 */
extern void obx_doorbell_arm_configuration(void);

#endif							/* OBX_DOORBELL_H */
