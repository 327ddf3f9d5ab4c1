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
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/command.h"
#include "base/compat.h"
#include "catalog/names.h"
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

static void
close_type(Oid relid)
{
	Oid			type = get_rel_type_id(relid);
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_type) GETSTRUCT(tuple))->typowner;
	ReleaseSysCache(tuple);
	revoke_all("TYPE", quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												  get_rel_name(relid)),
			   list_object_grantees(TYPEOID, type, Anum_pg_type_typacl, OBJECT_TYPE, owner));
}

static void
close_table(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	revoke_all("TABLE", quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid)),
			   list_object_grantees(RELOID, relid, Anum_pg_class_relacl, OBJECT_TABLE, owner));
}

void
obx_closed_ensure(Oid relid)
{
	close_table(relid);
	close_type(relid);
}

void
obx_closed_ensure_types(void)
{
	Oid			type = OIDOID;
	Datum		schema = ObjectIdGetDatum(obx_schema_require());

	SPI_connect();
	if (SPI_execute_with_args("SELECT c.oid FROM pg_catalog.pg_class c"
							  " JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) c.reltype"
							  " WHERE c.relnamespace OPERATOR(pg_catalog.=) $1"
							  " AND c.relkind OPERATOR(pg_catalog.=) 'r'"
							  " AND (t.typacl IS NULL OR EXISTS ("
							  "SELECT FROM pg_catalog.aclexplode(t.typacl) a"
							  " WHERE a.grantee OPERATOR(pg_catalog.<>) t.typowner))",
							  1, &type, &schema, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list tables");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		close_type(DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc,
												  1, &isnull)));
	}
	SPI_finish();
}
