/*
 * The log's generation: in which cluster, and on which timeline, it goes on.
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
 * All generations, to tell in which one an event's id was drawn.  An id says
 * that by itself, since each generation draws larger ones than those before.
 */
typedef struct ObxGenerations ObxGenerations;

extern ObxGenerations *obx_generations_load(Snapshot snapshot);
extern int32 obx_generation_of_id(const ObxGenerations *generations, int64 id);

/*
 * What is added to a transaction id of this cluster to make it one of the
 * log's.  Looked up once in a process, and then, should the log have moved,
 * the next generation is begun: in this transaction, under the segments' lock.
 */
extern uint64 obx_xid_offset(void);

/*
 * The current transaction's id as the log writes it; assigns one.  The second
 * form does not, and returns 0 where there is none.
 */
extern uint64 obx_xid_own(void);
extern uint64 obx_xid_own_if_any(void);

/* The active snapshot, in the log's transaction ids; allocated in CurrentMemoryContext. */
extern ObxXidSnapshot *obx_generation_snapshot(void);

/* Records the first generation, unless there is one; for who gives positions. */
extern void obx_generation_ensure(void);

/*
 * Was the log loaded, and nothing emitted since?  The restore may be under way;
 * whoever writes first ends it, and makes what was loaded fit together.
 */
extern bool obx_generation_is_loaded(void);

/*
 * Can it be loaded, since nothing has been emitted here yet, and no position
 * been given?
 */
extern bool obx_generation_accepts_load(void);

/* Has an event been emitted here?  Then nothing is loaded any more. */
extern bool obx_generation_is_settled(void);

/* Called when the database is found to be a copy of one in the same cluster. */
extern void (*obx_generation_at_copy) (void);

/*
 * From a room's init: "settle" is called when a log that was loaded is written
 * to first, under the segments' lock.  It makes what the room has fit the log,
 * and returns the highest id that it refers to.  "needs_settling" is asked
 * where the log itself is empty.
 */
extern void obx_generation_on_load(bool (*needs_settling) (void), int64 (*settle) (void));

#endif							/* OBX_GENERATION_H */
