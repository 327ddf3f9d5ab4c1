/*
 * The lock of a lane: only the session that has it serves the lane.
 *
 * The subscription itself has one, too (catalog/locks.h).  Must not know the
 * purpose of the lock.
 */
#include "postgres.h"

#include "storage/lmgr.h"

#include "base/compat.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "dispatch/lane.h"

void
obx_lane_lock_tables(void)
{
	LockRelationOid(obx_object_require(OBX_PROGRESS), RowExclusiveLock);
	LockRelationOid(obx_object_require(OBX_DELIVERY), RowExclusiveLock);
}

static bool
lock_for_change(LOCKTAG tag, bool wait)
{
	if (!obx_lock_acquire(tag, ExclusiveLock, wait))
		return false;
	obx_lane_lock_tables();
	return true;
}

bool
obx_lane_lock(int32 subscription, int32 lane, bool wait)
{
	return lock_for_change(obx_lock_lane(subscription, lane), wait);
}

void
obx_subscription_lock(int32 subscription)
{
	(void) lock_for_change(obx_lock_subscription(subscription), true);
}

bool
obx_subscription_lock_nowait(int32 subscription)
{
	return lock_for_change(obx_lock_subscription(subscription), false);
}

void
obx_lane_unlock(int32 subscription, int32 lane)
{
	obx_lock_release(obx_lock_lane(subscription, lane), ExclusiveLock);
}
