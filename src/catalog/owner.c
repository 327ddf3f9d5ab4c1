/*
 * The owner of a subscription or a registered type, as PostgreSQL knows it.
 *
 * A row of ours cannot be among the objects that a role owns.  So an object
 * stands for each of them: a type in our schema that is only a shell, which
 * nobody can use for anything, and which belongs to the owner.  That makes DROP ROLE fail, from every database; REASSIGN OWNED gives it to
 * another role, and DROP OWNED drops it, and the row follows.  Dumps contain it
 * like any type, and name its owner.
 *
 * Must not know what it is that is owned.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/pg_type.h"
#include "commands/typecmds.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "catalog/owner.h"

/*
 * Names that are longer than this are cut, and told apart by a hash.  It is one
 * for which nobody can choose a second name: its type would be the same, and
 * what is somebody else's would change hands with it.
 */
#define OBX_WHOLE_NAME 49
#define OBX_HASH_BYTES 12

static char *
hash_name(const char *name)
{
	bytea	   *hash = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea,
														   PointerGetDatum(cstring_to_text(name))));
	char	   *hex = palloc0(2 * OBX_HASH_BYTES + 1);

	(void) hex_encode(VARDATA_ANY(hash), OBX_HASH_BYTES, hex);
	return hex;
}

static char *
make_name(ObxOwned kind, const char *owned)
{
	const char *word = kind == OBX_OWNED_SUBSCRIPTION ? "subscription" : "event type";
	int			length = strlen(owned);
	int			room = NAMEDATALEN - 1 - strlen(word) - strlen("~ ") - 2 * OBX_HASH_BYTES;

	if (length <= OBX_WHOLE_NAME)
		return psprintf("%s %s", word, owned);
	return psprintf("%s~%s %.*s", word, hash_name(owned),
					pg_mbcliplen(owned, length, room), owned);
}

static Oid
find_type(ObxOwned kind, const char *owned)
{
	char		name[NAMEDATALEN] = {0};

	strlcpy(name, make_name(kind, owned), NAMEDATALEN);
	return GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, PointerGetDatum(name),
						   ObjectIdGetDatum(obx_schema_require()));
}

Oid
obx_owner_find(ObxOwned kind, const char *owned)
{
	Oid			type = find_type(kind, owned);
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	return owner;
}

bool
obx_owner_is(const char *type, ObxOwned kind, const char *owned)
{
	return strcmp(type, make_name(kind, owned)) == 0;
}

/* Goes with the extension, of which it is no member: members are not dumped. */
static void
attach_to_extension(ObxOwned kind, Oid type)
{
	ObjectAddress object;
	ObjectAddress table;

	/* a dump keeps the type, and not that */
	ObjectAddressSet(object, TypeRelationId, type);
	ObjectAddressSet(table, RelationRelationId, obx_object_require(kind == OBX_OWNED_SUBSCRIPTION ?
																   OBX_SUBSCRIPTION : OBX_REGISTERED_TYPE));
	(void) deleteDependencyRecordsForSpecific(TypeRelationId, type, DEPENDENCY_AUTO,
											  RelationRelationId, table.objectId);
	recordDependencyOn(&object, &table, DEPENDENCY_AUTO);
}

void
obx_owner_put(ObxOwned kind, const char *owned, Oid role)
{
	Oid			type = find_type(kind, owned);

	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role)) ||
		obx_owner_find(kind, owned) == role)
		return;
	if (OidIsValid(type))
		AlterTypeOwner_oid(type, role, true);
	else
	{
		type = TypeShellMake(make_name(kind, owned), obx_schema_require(), role).objectId;
		attach_to_extension(kind, type);
	}
	CommandCounterIncrement();
}

void
obx_owner_restore(ObxOwned kind, const char *owned, Oid role)
{
	Oid			type;

	obx_owner_put(kind, owned, role);
	type = find_type(kind, owned);
	if (OidIsValid(type))
		attach_to_extension(kind, type);
}

void
obx_owner_drop(ObxOwned kind, const char *owned)
{
	ObjectAddress object;

	ObjectAddressSet(object, TypeRelationId, find_type(kind, owned));
	if (OidIsValid(object.objectId))
		performDeletion(&object, DROP_CASCADE,
						PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
}
