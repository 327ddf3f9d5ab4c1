/*
 * The lock of a lane: whoever has it is the only one who serves the lane.
 *
 * It is a lock on an object of ours, so that a session that ends gives it
 * back.  The subscription itself has one, too.  Must not know what a lane is
 * locked for.
 */
#include "postgres.h"

#include "storage/lmgr.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "dispatch/lane.h"

/* an "object" of the class that our table is, so no other extension's */
static LOCKTAG
lock_tag(int32 subscription, int32 lane)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, obx_object_require(OBX_SUBSCRIPTION),
					   (Oid) subscription, (uint16) lane);
	return tag;
}

void
obx_lane_lock_tables(void)
{
	LockRelationOid(obx_object_require(OBX_PROGRESS), RowExclusiveLock);
	LockRelationOid(obx_object_require(OBX_DELIVERY), RowExclusiveLock);
}

bool
obx_lane_lock(int32 subscription, int32 lane, bool wait)
{
	LOCKTAG		tag = lock_tag(subscription, lane);

	if (LockAcquire(&tag, ExclusiveLock, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	obx_lane_lock_tables();
	return true;
}

/* a lane that there never is */
void
obx_subscription_lock(int32 subscription)
{
	(void) obx_lane_lock(subscription, PG_UINT16_MAX, true);
}

bool
obx_subscription_lock_nowait(int32 subscription)
{
	return obx_lane_lock(subscription, PG_UINT16_MAX, false);
}

void
obx_lane_unlock(int32 subscription, int32 lane)
{
	LOCKTAG		tag = lock_tag(subscription, lane);

	LockRelease(&tag, ExclusiveLock, false);
}
