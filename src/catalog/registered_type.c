/*
 * Rows of outbox.registered_type: types of events, and what their data must be.
 *
 * Every session keeps them in memory and hears of changes by an invalidation of
 * the table in the relcache.  Must not know what a contract means.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/table.h"
#include "catalog/names.h"
#include "catalog/owner.h"
#include "catalog/registered_type.h"

/* Columns of outbox.registered_type. */
enum
{
	TYPE,
	CONTRACT,
	EXPRESSION,
	DESCRIPTION,
	REGISTERED_BY,
	SEARCH_PATH,
	REGISTERED_AT,
	COLUMNS
};

static ObxRegisteredType *
make_type(HeapTuple tuple, TupleDesc tupdesc)
{
	ObxRegisteredType *type = palloc(sizeof(ObxRegisteredType));
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	type->type = obx_table_get_text(values, nulls, TYPE);
	type->contract = obx_table_get_text(values, nulls, CONTRACT);
	type->expression = obx_table_get_text(values, nulls, EXPRESSION);
	type->description = obx_table_get_text(values, nulls, DESCRIPTION);
	type->registered_by = DatumGetObjectId(values[REGISTERED_BY]);
	type->search_path = obx_table_get_text(values, nulls, SEARCH_PATH);
	type->registered_at = DatumGetTimestampTz(values[REGISTERED_AT]);
	return type;
}

static void
form_values(const ObxRegisteredType *type, Datum *values, bool *nulls)
{
	obx_table_set_text(values, nulls, TYPE, type->type);
	obx_table_set_text(values, nulls, CONTRACT, type->contract);
	obx_table_set_text(values, nulls, EXPRESSION, type->expression);
	obx_table_set_text(values, nulls, DESCRIPTION, type->description);
	obx_table_set_text(values, nulls, SEARCH_PATH, type->search_path);
	values[REGISTERED_BY] = ObjectIdGetDatum(type->registered_by);
	values[REGISTERED_AT] = TimestampTzGetDatum(type->registered_at);
	nulls[REGISTERED_BY] = nulls[REGISTERED_AT] = false;
}

/* A scan of the row of one type, or of all with NULL. */
static void
begin_scan(ObxScan *scan, LOCKMODE lockmode, const char *type)
{
	ScanKeyData key;

	if (type != NULL)
		ScanKeyInit(&key, TYPE + 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(type));
	obx_scan_begin(scan, obx_object_require(OBX_REGISTERED_TYPE), lockmode,
				   obx_object_require(OBX_REGISTERED_TYPE_PKEY), NULL, &key, type != NULL ? 1 : 0,
				   ForwardScanDirection);
}

ObxRegisteredType *
obx_registered_type_find(const char *type)
{
	ObxScan		scan;
	HeapTuple	tuple;
	ObxRegisteredType *found = NULL;

	begin_scan(&scan, AccessShareLock, type);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		found = make_type(tuple, RelationGetDescr(scan.table));
	obx_scan_end(&scan);
	return found;
}

List *
obx_registered_type_list(void)
{
	ObxScan		scan;
	HeapTuple	tuple;
	List	   *list = NIL;

	begin_scan(&scan, AccessShareLock, NULL);
	while ((tuple = obx_scan_next(&scan)) != NULL)
		list = lappend(list, make_type(tuple, RelationGetDescr(scan.table)));
	obx_scan_end(&scan);
	return list;
}

/* Not the table: whoever can name that can lock it, without any right. */
void
obx_registered_type_lock(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId,
					   obx_object_require(OBX_REGISTERED_TYPE), 1);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
obx_registered_type_put(const ObxRegisteredType *type)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	ObxScan		scan;
	HeapTuple	tuple;

	form_values(type, values, nulls);
	begin_scan(&scan, RowExclusiveLock, type->type);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
	{
		bool		replace[COLUMNS];

		memset(replace, true, sizeof(replace));
		obx_table_update(scan.table, tuple, values, nulls, replace);
	}
	else
		(void) obx_table_insert(scan.table, values, nulls);
	CacheInvalidateRelcache(scan.table);
	obx_scan_end(&scan);
	obx_owner_put(OBX_OWNED_EVENT_TYPE, type->type, type->registered_by);
}

bool
obx_registered_type_delete(const char *type)
{
	ObxScan		scan;
	HeapTuple	tuple;

	begin_scan(&scan, RowExclusiveLock, type);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
	{
		obx_table_delete(scan.table, tuple);
		CacheInvalidateRelcache(scan.table);
	}
	obx_scan_end(&scan);
	obx_owner_drop(OBX_OWNED_EVENT_TYPE, type);
	return tuple != NULL;
}

/* ---- owners ---- */

static bool
is_reassigned(const ObxRegisteredType *type)
{
	Oid			owner = obx_owner_find(OBX_OWNED_EVENT_TYPE, type->type);

	return OidIsValid(owner) && owner != type->registered_by;
}

void
obx_registered_type_follow_owners(void)
{
	ListCell   *lc;

	foreach(lc, obx_registered_type_list())
	{
		ObxRegisteredType *type = lfirst(lc);

		if (!is_reassigned(type))
			continue;
		obx_registered_type_lock();
		type = obx_registered_type_find(type->type);
		if (type == NULL || !is_reassigned(type))
			continue;
		/* the former one's search_path is the former one's to fill */
		type->registered_by = obx_owner_find(OBX_OWNED_EVENT_TYPE, type->type);
		type->search_path = obx_identity_path(obx_identity_role_path(type->registered_by));
		obx_registered_type_put(type);
	}
}

bool
obx_registered_type_follow_drop(const char *type)
{
	ListCell   *lc;

	foreach(lc, obx_registered_type_list())
	{
		const char *registered = ((ObxRegisteredType *) lfirst(lc))->type;

		if (!obx_owner_is(type, OBX_OWNED_EVENT_TYPE, registered))
			continue;
		obx_registered_type_lock();
		return obx_registered_type_delete(registered);
	}
	return false;
}

void
obx_registered_type_restore_owners(void)
{
	ListCell   *lc;

	foreach(lc, obx_registered_type_list())
	{
		const ObxRegisteredType *type = lfirst(lc);

		obx_owner_restore(OBX_OWNED_EVENT_TYPE, type->type, type->registered_by);
	}
}
