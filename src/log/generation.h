/*
 * The log's generation: the cluster and the timeline that the log is in.
 */
#ifndef OBX_GENERATION_H
#define OBX_GENERATION_H

#include "utils/snapshot.h"

#include "log/xid_snapshot.h"

/* From _PG_init. */
extern void obx_generation_init(void);

/* The newest generation's number; 1 while nothing is recorded. */
extern int32 obx_generation_number(void);

/*
 * All generations, to find the one in which an event's id was assigned.  The
 * id is enough for that, because each generation has larger ids than those
 * before.
 */
typedef struct ObxGenerations ObxGenerations;

extern ObxGenerations *obx_generations_load(Snapshot snapshot);
extern int32 obx_generation_of_id(const ObxGenerations *generations, int64 id);

/*
 * Follows the log to where it is now.  Looked up once in a process; should the
 * log have moved, the next generation begins, in this transaction and under the
 * lock for sequencing, and in a copy all subscriptions are paused.  Returns what
 * is added to a transaction id of this cluster to make it one of the log's.
 */
extern uint64 obx_generation_follow(void);

/*
 * The current transaction's id as the log writes it; assigns one.  The second
 * form assigns none, and returns 0 if there is none.
 */
extern uint64 obx_generation_own_xid(void);
extern uint64 obx_generation_own_xid_if_any(void);

/* No transaction that has an id by now has this one or a later one. */
extern uint64 obx_generation_next_xid(void);

/* The active snapshot, in the log's transaction ids; allocated in CurrentMemoryContext. */
extern ObxXidSnapshot *obx_generation_snapshot(void);

/*
 * Is one of the log's transactions, which has ended, known to have aborted?
 * False where this cluster cannot tell any more.
 */
extern bool obx_generation_has_aborted(uint64 xid);

/*
 * Records the first generation, unless there is one; for the session that
 * assigns positions.
 */
extern void obx_generation_ensure(void);

/*
 * Was the log loaded, and no event emitted since?  The restore may still be
 * running; the first writer ends it, and makes the loaded rows consistent.
 */
extern bool obx_generation_is_loaded(void);

/*
 * Can the log be loaded, because no event has been emitted here yet, and no
 * position assigned?
 */
extern bool obx_generation_accepts_load(void);

/*
 * For the session that has found events to position: raises an error if they
 * can only have been loaded, after obx_generation_follow() had looked.
 */
extern void obx_generation_refuse_load(void);

/* Has an event been emitted here?  Then the log cannot be loaded any more. */
extern bool obx_generation_is_settled(void);

/*
 * Called when the database turns out to be a copy of one in the same cluster.
 */
extern void (*obx_generation_at_copy) (void);

/*
 * The largest of the log's transaction ids that is stored outside of it; 0 for
 * none.  New ones must be above it, too.
 */
extern uint64 (*obx_generation_noted_xid) (void);

/*
 * From now on this process raises an error where it would have to make a loaded
 * log fit, or no longer does: nobody has asked a background process to end a
 * restore.  Exact: a load that begins after the process has looked is met.
 */
extern void obx_generation_leave_loaded(bool leave);

/*
 * For a room's init: "settle" is called under the segments' lock at the first
 * write to a log that was loaded.  It makes the room's rows fit the log, and
 * returns the highest id that they refer to.  "needs_settling" is called if
 * the log itself is empty.
 */
extern void obx_generation_on_load(bool (*needs_settling) (void), int64 (*settle) (void));

#endif							/* OBX_GENERATION_H */
