/*
 * Sessions that LISTEN for what is new in the log: is anybody there, and does
 * anybody wait?
 */
#ifndef OBX_LISTENER_H
#define OBX_LISTENER_H

/* The channel; its payload is the last position. */
#define OBX_HEAD_CHANNEL "outbox_head"

/* From _PG_init: shared memory, the transaction callback, LISTEN and UNLISTEN. */
extern void obx_listener_init(void);

/*
 * Somebody has come to the end of what there is, and now waits: the next that is
 * new is announced at once.  Costs one look where nobody listens.
 */
extern void obx_listener_arm(void);

/* For those who announce. */

/* There is something new; false: nobody in our database listens. */
extern bool obx_listener_note(void);

/* Does anybody wait for it?  Until obx_listener_arm(), nobody does any more. */
extern bool obx_listener_take(void);

/* Was something noted and not taken? */
extern bool obx_listener_is_owed(void);

/* Forgets what was noted: it was announced. */
extern void obx_listener_forget(void);

#endif							/* OBX_LISTENER_H */
