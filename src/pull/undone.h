/*
 * Hand-outs whose transactions were undone: of them nothing is left in tables.
 */
#ifndef OBX_UNDONE_H
#define OBX_UNDONE_H

#include "pull/lane.h"

/* From _PG_init: shared memory and the transaction callback. */
extern void obx_undone_init(void);

/*
 * Notes the hand-out of a lane that the current transaction has, for the case
 * that it is undone; notes what is left of it after an ack that no savepoint
 * undoes; and forgets it when it was given back or has a lease now, because
 * then the end of the transaction says nothing.
 */
extern void obx_undone_note(const ObxProgress *progress);
extern void obx_undone_follow(const ObxProgress *progress);
extern void obx_undone_forget(const ObxProgress *progress);

/*
 * Blames what hand-outs of the lane had when their transactions were undone;
 * the lane's lock is held, nobody has it, and its lists are loaded.  They are
 * forgotten when the transaction commits.
 */
extern void obx_undone_blame(ObxPullLane *work);

#endif							/* OBX_UNDONE_H */
