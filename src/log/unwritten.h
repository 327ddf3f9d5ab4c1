/*
 * Sessions that have drawn ids which may not be in the log yet.
 */
#ifndef OBX_UNWRITTEN_H
#define OBX_UNWRITTEN_H

/* From _PG_init: shared memory and the transaction callback. */
extern void obx_unwritten_init(void);

/*
 * The current transaction is about to draw ids; known to all until it ends.
 * False if there is no place to say so.
 */
extern bool obx_unwritten_enter(void);

/* Has another session of this database entered? */
extern bool obx_unwritten_has_others(void);

#endif							/* OBX_UNWRITTEN_H */
