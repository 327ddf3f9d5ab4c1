/*
 * The number of causes above an event.
 */
#ifndef OBX_DEPTH_H
#define OBX_DEPTH_H

/* From _PG_init: shared memory. */
extern void obx_depth_init(void);

/*
 * The depth of an event of that type emitted now: 0, unless a handler passes
 * its cause on. ereport(ERROR, OB003) if it exceeds outbox.max_depth.
 */
extern int	obx_depth_check(Datum type);

/* Remembers the depth of an event that has just been emitted. */
extern void obx_depth_note(int64 id, int depth);

#endif							/* OBX_DEPTH_H */
