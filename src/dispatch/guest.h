/*
 * Handlers as guests, in a session that another role uses for other work, too.
 */
#ifndef OBX_GUEST_H
#define OBX_GUEST_H

/* Once, when the library is loaded. */
extern void obx_guest_init(void);

/*
 * Notes what the session has (prepared statements, advisory locks, channels it
 * listens to), so that this stays, also when a handler discards all there is of a
 * kind.  Inside a transaction, before handlers run;
 * all that was noted is kept in CurrentMemoryContext, which must live until
 * obx_guest_end().
 */
extern void obx_guest_begin(void);

/*
 * Removes objects of handlers that would outlive the transaction: cursors,
 * temporary objects, prepared statements, channels.  To be called at the end
 * of the transaction in which they ran, outside of any subtransaction.
 */
extern void obx_guest_clear(void);

/*
 * The part of it that no rollback undoes: prepared statements, advisory locks,
 * sequences.  In a transaction, when none has such a lock by itself: a new one,
 * or one whose calls were undone.
 */
extern void obx_guest_abandon(void);

/* Forgets what was noted. */
extern void obx_guest_end(void);

#endif							/* OBX_GUEST_H */
