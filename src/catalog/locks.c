/*
 * The tags of our heavyweight locks.  The header says what each is for.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "common/hashfn.h"
#include "miscadmin.h"

#include "base/compat.h"
#include "catalog/locks.h"

/* No subscription can have that many lanes. */
#define WHOLE_SUBSCRIPTION PG_UINT16_MAX

static LOCKTAG
make_tag(Oid class, uint32 object, uint16 part)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, class, object, part);
	return tag;
}

LOCKTAG
obx_lock_subscription(int32 subscription)
{
	return make_tag(obx_object_require(OBX_SUBSCRIPTION), subscription, WHOLE_SUBSCRIPTION);
}

/* Ids are positive, so the highest bit tells the two apart. */
LOCKTAG
obx_lock_subscription_name(const char *name)
{
	uint32		hash = hash_bytes((const unsigned char *) name, strlen(name));

	return make_tag(obx_object_require(OBX_SUBSCRIPTION), hash | (UINT32_C(1) << 31),
					WHOLE_SUBSCRIPTION);
}

LOCKTAG
obx_lock_lane(int32 subscription, int32 lane)
{
	Assert(lane >= 0 && lane < WHOLE_SUBSCRIPTION);
	return make_tag(obx_object_require(OBX_SUBSCRIPTION), subscription, lane);
}

LOCKTAG
obx_lock_sequencing(void)
{
	return make_tag(obx_object_require(OBX_SEGMENT), 1, 0);
}

LOCKTAG
obx_lock_scheduled(void)
{
	return make_tag(obx_object_require(OBX_SCHEDULE), 1, 0);
}

LOCKTAG
obx_lock_key(uint64 hash)
{
	return make_tag(obx_object_require(OBX_SEEN_TURN), (uint32) hash, (uint16) (hash >> 32) | 1);
}

LOCKTAG
obx_lock_turn(void)
{
	return make_tag(obx_object_require(OBX_SEEN_TURN), 0, 0);
}

LOCKTAG
obx_lock_failure(int32 subscription)
{
	return make_tag(obx_object_require(OBX_FAILURE), subscription, 0);
}

LOCKTAG
obx_lock_deletion(ObxObject table)
{
	return make_tag(RelationRelationId, obx_object_require(table), 1);
}

LOCKTAG
obx_lock_extension(Oid extension)
{
	return make_tag(ExtensionRelationId, extension, 0);
}

LOCKTAG
obx_lock_counter(Oid sequence)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, sequence);
	return tag;
}

LOCKTAG
obx_lock_notify(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, InvalidOid, 0);
	return tag;
}

bool
obx_lock_acquire(LOCKTAG tag, LOCKMODE mode, bool wait)
{
	return LockAcquire(&tag, mode, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

void
obx_lock_release(LOCKTAG tag, LOCKMODE mode)
{
	Assert(obx_lock_is_held(&tag, mode));
	(void) LockRelease(&tag, mode, false);
}
