/*
 * Tables of ours that nobody else has rights on.
 *
 * PUBLIC has USAGE on every new type, a table's row type among them, and so
 * could have columns of it: then the table cannot be dropped.  The owner's
 * default privileges may give more.  A dump keeps neither the one nor the
 * other out: it does not know the rights on row types.
 *
 * Must not know what the table is for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/command.h"
#include "base/compat.h"
#include "log/closed.h"

/* Those besides the owner who are given something, ACL_ID_PUBLIC among them. */
static List *
list_grantees(const Acl * acl, Oid owner)
{
	List	   *grantees = NIL;

	for (int i = 0; i < ACL_NUM(acl); i++)
	{
		const		AclItem *item = &ACL_DAT(acl)[i];

		if (item->ai_grantee != owner && ACLITEM_GET_RIGHTS(*item) != ACL_NO_RIGHTS)
			grantees = list_append_unique_oid(grantees, item->ai_grantee);
	}
	return grantees;
}

/* The rights that are noted in a catalog's row, or else the built-in ones. */
static List *
list_object_grantees(int cache, Oid object, AttrNumber column, ObjectType kind, Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	bool		isnull;
	Datum		datum;
	List	   *grantees;

	if (!HeapTupleIsValid(tuple))
		return NIL;
	datum = SysCacheGetAttr(cache, tuple, column, &isnull);
	grantees = list_grantees(isnull ? acldefault(kind, owner) : DatumGetAclP(datum), owner);
	ReleaseSysCache(tuple);
	return grantees;
}

static void
revoke_all(const char *kind, const char *name, List *grantees)
{
	ListCell   *lc;

	foreach(lc, grantees)
	{
		Oid			grantee = lfirst_oid(lc);

		obx_command_run(psprintf("REVOKE ALL ON %s %s FROM %s CASCADE", kind, name,
								 grantee == ACL_ID_PUBLIC ? "PUBLIC" :
								 quote_identifier(GetUserNameFromId(grantee, false))));
	}
}

void
obx_closed_ensure(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class class;
	Oid			owner;
	Oid			type;
	char	   *name;

	if (!HeapTupleIsValid(tuple))
		return;
	class = (Form_pg_class) GETSTRUCT(tuple);
	owner = class->relowner;
	type = class->reltype;
	name = quote_qualified_identifier(get_namespace_name(class->relnamespace),
									  NameStr(class->relname));
	ReleaseSysCache(tuple);

	revoke_all("TABLE", name, list_object_grantees(RELOID, relid, Anum_pg_class_relacl,
												   OBJECT_TABLE, owner));
	revoke_all("TYPE", name, list_object_grantees(TYPEOID, type, Anum_pg_type_typacl,
												  OBJECT_TYPE, owner));
}
