/*
 * Our regions of the server's shared memory.
 *
 * One pair of hooks serves all regions, so that a room only says how much it
 * needs and how it starts out.  The hooks run again after a crash, when all
 * shared memory is made anew; nothing but memory may be set up in them.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "base/compat.h"
#include "base/shmem.h"

#define MAX_REGIONS 16

static const ObxRegion *regions[MAX_REGIONS];
static int	nregions = 0;

static shmem_startup_hook_type previous_startup_hook = NULL;
#ifdef OBX_HAS_SHMEM_REQUEST_HOOK
static shmem_request_hook_type previous_request_hook = NULL;
#endif

static void
request_region(const ObxRegion *region)
{
	RequestAddinShmemSpace(region->size);
	if (region->locks > 0)
		RequestNamedLWLockTranche(region->name, region->locks);
}

#ifdef OBX_HAS_SHMEM_REQUEST_HOOK
static void
request_regions(void)
{
	if (previous_request_hook)
		previous_request_hook();
	for (int i = 0; i < nregions; i++)
		request_region(regions[i]);
}
#endif

static void
start_regions(void)
{
	if (previous_startup_hook)
		previous_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nregions; i++)
	{
		const ObxRegion *region = regions[i];
		bool		found;

		*region->address = ShmemInitStruct(region->name, region->size, &found);
		if (!found)
		{
			memset(*region->address, 0, region->size);
			region->initialize(*region->address, obx_shmem_locks(region));
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

void
obx_shmem_register(const ObxRegion *region)
{
	if (!process_shared_preload_libraries_in_progress)
		return;
	if (nregions == MAX_REGIONS)
		elog(ERROR, "too many shared memory regions");

	if (nregions == 0)
	{
		previous_startup_hook = shmem_startup_hook;
		shmem_startup_hook = start_regions;
#ifdef OBX_HAS_SHMEM_REQUEST_HOOK
		previous_request_hook = shmem_request_hook;
		shmem_request_hook = request_regions;
#endif
	}
	regions[nregions++] = region;
#ifndef OBX_HAS_SHMEM_REQUEST_HOOK
	request_region(region);
#endif
}

LWLockPadded *
obx_shmem_locks(const ObxRegion *region)
{
	return region->locks > 0 ? GetNamedLWLockTranche(region->name) : NULL;
}
