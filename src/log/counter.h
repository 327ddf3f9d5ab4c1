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

#endif							/* OBX_COUNTER_H */
