/*
 * The counter that ids of events are drawn from.
 */
#ifndef OBX_COUNTER_H
#define OBX_COUNTER_H

/*
 * Draws that many consecutive ids and returns the first.  The transaction has
 * its xid already; see counter.c for when to draw.
 */
extern int64 obx_counter_draw(int count);

/*
 * Steps the counter far beyond what it is, and beyond that id, since ids may be
 * in use that cannot be seen here.  Returns the next one to be drawn.
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
 * Makes it as if no id had been drawn, without going back: the log is empty,
 * and is to be loaded.  False if somebody is about to write to it.
 */
extern bool obx_counter_rest(void);

/*
 * The highest id in use as far as can be seen, or 0: asked where the counter
 * may have been set back.
 */
extern int64 (*obx_counter_highest) (void);

/* Called then as well: other counters may have been set back with it. */
extern void (*obx_counter_at_set) (void);

#endif							/* OBX_COUNTER_H */
