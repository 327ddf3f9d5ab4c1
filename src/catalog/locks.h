/*
 * Locks: every heavyweight lock that guards something of ours, on one page.
 *
 * Beyond the locks that PostgreSQL takes for tables that are read and written,
 * these are all there are.  "Object" names the three parts of the tag of an
 * object lock in our database: the OIDs of our own tables stand in the first
 * part, so no other extension's locks are among them.
 *
 * Object locks
 *
 *   subscription (outbox.subscription, subscription, 65535): exclusive.  Taken
 *     by all that changes a subscription's row, or more of its lanes than one
 *     pass does.  Waits; upkeep does not.
 *   name (outbox.subscription, 31 bits of a hash above all ids, 65535):
 *     exclusive.  Taken by a transaction that makes or removes a subscription of
 *     that name, or is asked to make one that is there.  Waits.
 *   lane (outbox.subscription, subscription, lane): exclusive.  Taken by a pass
 *     (never waits), a hand-out (never waits), a receipt, and by what holds the
 *     subscription's lock.  Before the snapshot; to the end of the transaction.
 *   sequencing (outbox.segment, 1, 0): exclusive.  Taken before the snapshot by
 *     a transaction that writes segments or generations; shared for a moment by
 *     a pass that must see all segments given so far.
 *   scheduled (outbox.schedule, 1, 0): exclusive.  One transaction at a time
 *     moves scheduled events into the log.
 *   key (outbox.seen_turn, 32 bits of a hash, 16 bits, never 0): exclusive, for
 *     the moment in which a key is looked up and its use is written.
 *   turn (outbox.seen_turn, 0, 0): exclusive, never waits.  One transaction at
 *     a time forgets keys.
 *   failure (outbox.failure, subscription, 0): exclusive, never
 *     waits.  One lane at a time writes the subscription's row there.
 *   deletion (pg_class, outbox.progress or outbox.window, 1): exclusive.  One
 *     transaction at a time deletes rows there.
 *   extension (pg_extension, pg_outbox, 0): ACCESS SHARE, never waits.  First
 *     thing in every transaction of a worker; DROP and ALTER EXTENSION conflict.
 *
 *   notify (pg_database, 0, 0, in no database): ACCESS EXCLUSIVE, PostgreSQL's
 *     own of all transactions of the server that notify.  The sequencer takes it
 *     first, without waiting.
 *
 * Table locks that say more than "read" or "written"
 *
 *   outbox.event: ROW SHARE holds off retention until a subscription's start
 *     is stored; EXCLUSIVE, never waits, is retention at work; ACCESS EXCLUSIVE
 *     drops a partition.
 *   a partition of it: ROW EXCLUSIVE until the writer's end; retention's
 *     ACCESS EXCLUSIVE, never waits, proves that no writer is left.
 *   outbox.event_default: ACCESS EXCLUSIVE, for a limited time, while a
 *     partition is attached or dropped.
 *   its sequence of ids: ROW EXCLUSIVE while it is open; and where the library
 *     is not preloaded until the transaction ends, even if its subtransaction
 *     aborts, since that shows who has drawn ids.
 *   outbox.seen_N: ROW EXCLUSIVE keeps the table of the current turn from being
 *     sealed.
 *   outbox.registered_type: SHARE ROW EXCLUSIVE, one contract at a time.
 *   outbox.segment, progress, delivery: ROW EXCLUSIVE together with the object
 *     lock.  Upgrading later could deadlock with REINDEX.
 *   a captured table: SHARE ROW EXCLUSIVE to make a rule, ACCESS EXCLUSIVE to
 *     drop one.
 *
 * Order, where several are taken: extension; name; subscription; its lanes by number;
 * deletion; failure; outbox.event; sequencing; a key.  What never waits may come
 * out of turn.
 */
#ifndef OBX_LOCKS_H
#define OBX_LOCKS_H

#include "storage/lock.h"

#include "catalog/names.h"

/* Tags.  Each ereports where the extension is missing. */
extern LOCKTAG obx_lock_subscription(int32 subscription);
extern LOCKTAG obx_lock_subscription_name(const char *name);
extern LOCKTAG obx_lock_lane(int32 subscription, int32 lane);
extern LOCKTAG obx_lock_sequencing(void);
extern LOCKTAG obx_lock_scheduled(void);
extern LOCKTAG obx_lock_key(uint64 hash);
extern LOCKTAG obx_lock_turn(void);
extern LOCKTAG obx_lock_failure(int32 subscription);
extern LOCKTAG obx_lock_deletion(ObxObject table);
extern LOCKTAG obx_lock_extension(Oid extension);
extern LOCKTAG obx_lock_counter(Oid sequence);
extern LOCKTAG obx_lock_notify(void);

/*
 * Takes the lock until the transaction ends, or obx_lock_release(); a
 * subtransaction that aborts takes it along.  False: it is not free and
 * "wait" is false.
 */
extern bool obx_lock_acquire(LOCKTAG tag, LOCKMODE mode, bool wait);

/* Gives it back before.  The transaction must have it in that mode. */
extern void obx_lock_release(LOCKTAG tag, LOCKMODE mode);

#endif							/* OBX_LOCKS_H */
