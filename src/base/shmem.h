/*
 * Our regions of the server's shared memory.
 *
 * A region exists only where the library was preloaded; elsewhere its pointer
 * stays NULL, and its owner must do without.
 */
#ifndef OBX_SHMEM_H
#define OBX_SHMEM_H

#include "storage/lwlock.h"

typedef struct ObxRegion
{
	const char *name;
	Size		size;
	int			locks;			/* how many LWLocks go with it */
	void	  **address;		/* where to put its address, NULL until then */
	void		(*initialize) (void *region, LWLockPadded *locks);
} ObxRegion;

/*
 * Asks for a region; from _PG_init only.  The struct must live for ever.  Does
 * nothing unless the library is being preloaded.  "initialize" runs once per
 * life of the shared memory (again after a crash), on zeroed memory.
 */
extern void obx_shmem_register(const ObxRegion *region);

/* The locks of a region, in the order of initialize's array. */
extern LWLockPadded *obx_shmem_locks(const ObxRegion *region);

#endif							/* OBX_SHMEM_H */
