/*
 * Whose a subscription is, as PostgreSQL knows it.
 *
 * A row of ours cannot be among the objects that a role owns.  So an object
 * stands for each subscription: a type in our schema that is only a shell, which
 * nobody can use for anything, and which belongs to the subscription's owner.
 * That makes DROP ROLE fail, from every database; REASSIGN OWNED gives it to
 * another role, and DROP OWNED drops it, and the row follows.  Dumps contain it
 * like any type, and name its owner.
 *
 * Must not know what a subscription is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_type.h"
#include "commands/typecmds.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "catalog/owner.h"

/* Names that are longer than this are cut, and told apart by a hash. */
#define OBX_WHOLE_NAME 49

static char *
make_name(const char *subscription)
{
	int			length = strlen(subscription);
	uint64		hash;

	if (length <= OBX_WHOLE_NAME)
		return psprintf("subscription %s", subscription);
	hash = hash_bytes_extended((const unsigned char *) subscription, length, 0);
	return psprintf("subscription~%08x%08x %.*s", (uint32) (hash >> 32), (uint32) hash,
					pg_mbcliplen(subscription, length, NAMEDATALEN - 1 - 30), subscription);
}

static Oid
find_type(const char *subscription)
{
	char		name[NAMEDATALEN] = {0};

	strlcpy(name, make_name(subscription), NAMEDATALEN);
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, PointerGetDatum(name),
						   ObjectIdGetDatum(obx_schema_require()));
}

Oid
obx_owner_find(const char *subscription)
{
	Oid			type = find_type(subscription);
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	return owner;
}

bool
obx_owner_is(const char *type, const char *subscription)
{
	return strcmp(type, make_name(subscription)) == 0;
}

/* Goes with the extension, of which it is no member: members are not dumped. */
static void
attach_to_extension(Oid type)
{
	ObjectAddress object;
	ObjectAddress table;

	/* a dump keeps the type, and not that */
	ObjectAddressSet(object, TypeRelationId, type);
	ObjectAddressSet(table, RelationRelationId, obx_object_require(OBX_SUBSCRIPTION));
	(void) deleteDependencyRecordsForSpecific(TypeRelationId, type, DEPENDENCY_AUTO,
											  RelationRelationId, table.objectId);
	recordDependencyOn(&object, &table, DEPENDENCY_AUTO);
}

void
obx_owner_put(const char *subscription, Oid role)
{
	Oid			type = find_type(subscription);

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)) ||
		obx_owner_find(subscription) == role)
		return;
	if (OidIsValid(type))
		AlterTypeOwner_oid(type, role, true);
	else
	{
		type = TypeShellMake(make_name(subscription), obx_schema_require(), role).objectId;
		attach_to_extension(type);
	}
	CommandCounterIncrement();
}

void
obx_owner_settle(const char *subscription, Oid role)
{
	Oid			type;

	obx_owner_put(subscription, role);
	type = find_type(subscription);
	if (OidIsValid(type))
		attach_to_extension(type);
}

void
obx_owner_drop(const char *subscription)
{
	ObjectAddress object;

	ObjectAddressSet(object, TypeRelationId, find_type(subscription));
	if (OidIsValid(object.objectId))
		performDeletion(&object, DROP_CASCADE,
						PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
}
