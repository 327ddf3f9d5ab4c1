/*
 * The counter of event ids.
 */
#ifndef OBX_COUNTER_H
#define OBX_COUNTER_H

/* From _PG_init. */
extern void obx_counter_init(void);

/*
 * Assigns that many consecutive ids and returns the first.  The transaction
 * has its xid already; counter.c explains when to call it.
 */
extern int64 obx_counter_draw(int count);

/*
 * Moves the counter far beyond its value and beyond that id, because ids may
 * be in use that this session cannot see.  Returns the next id.
 */
extern int64 obx_counter_step(int64 above);

typedef enum ObxCounterState
{
	OBX_COUNTER_NEW,			/* no id was drawn: what the log has was
								 * loaded */
	OBX_COUNTER_SET,			/* as a restore does, which may be under way */
	OBX_COUNTER_DRAWN			/* since then: events were emitted here */
} ObxCounterState;

extern ObxCounterState obx_counter_state(void);

/*
 * Resets the counter as if no id had been assigned, without going back: the
 * log is empty and will be loaded.  False if a session is about to write to
 * it.
 */
extern bool obx_counter_rest(void);

/*
 * The highest visible id in use, or 0.  Called when the counter may have been
 * set back.
 */
extern int64 (*obx_counter_highest) (void);

/* Called at the same time: other counters may have been set back with it. */
extern void (*obx_counter_at_set) (void);

#endif							/* OBX_COUNTER_H */
