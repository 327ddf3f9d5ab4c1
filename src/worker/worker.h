/*
 * The processes of pg_outbox, as the rest of the library sees them.
 */
#ifndef OBX_WORKER_H
#define OBX_WORKER_H

/*
 * Registers the launcher, the shared memory of the processes and the utility
 * hook.  From _PG_init only; does nothing unless the library is preloaded.
 */
extern void obx_worker_init(void);

#endif							/* OBX_WORKER_H */
