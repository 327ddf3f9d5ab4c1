/*
 * Objects of others that depend on a table of ours.
 *
 * A role needs no right on a table to make a view on it, and may have had
 * USAGE on its row type.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "base/compat.h"
#include "log/dependent.h"

/* Fills in the first object that depends on this one by itself. */
static bool
find_dependent(Oid class, Oid object, ObjectAddress *dependent)
{
	Relation	table = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(class));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(object));
	scan = systable_beginscan(table, DependReferenceIndexId, true, NULL, 2, keys);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);

		found = depend->deptype == DEPENDENCY_NORMAL;
		ObjectAddressSubSet(*dependent, depend->classid, depend->objid, depend->objsubid);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return found;
}

const char *
obx_dependent_describe(Oid relid)
{
	Oid			type = get_rel_type_id(relid);
	ObjectAddress dependent;

	if (!find_dependent(RelationRelationId, relid, &dependent) &&
		!find_dependent(TypeRelationId, type, &dependent) &&
		!find_dependent(TypeRelationId, get_array_type(type), &dependent))
		return NULL;
	return obx_object_describe(&dependent);
}
