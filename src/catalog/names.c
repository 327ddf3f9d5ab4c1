/*
 * Where the extension's objects are in this database.
 *
 * The cache holds only OIDs.  An OID goes stale only when its relation is
 * dropped, and then the relcache tells us; so does a reset of all caches.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "catalog/names.h"

static const char *const object_name[OBX_OBJECT_COUNT] = {
	[OBX_EVENT] = "event",
	[OBX_EVENT_DEFAULT] = "event_default",
	[OBX_EVENT_DEFAULT_TIME_IDX] = "event_default_time_idx",
	[OBX_EVENT_ID_SEQ] = "event_id_seq",
	[OBX_GENERATION] = "generation",
	[OBX_GENERATION_PKEY] = "generation_pkey",
	[OBX_SEGMENT] = "segment",
	[OBX_SEGMENT_PKEY] = "segment_pkey",
	[OBX_TALLY] = "tally",
	[OBX_TALLY_XID_IDX] = "tally_xid_idx",
	[OBX_SUBSCRIPTION] = "subscription",
	[OBX_SUBSCRIPTION_PKEY] = "subscription_pkey",
	[OBX_SUBSCRIPTION_NAME_KEY] = "subscription_name_key",
	[OBX_SUBSCRIPTION_ID_SEQ] = "subscription_id_seq",
	[OBX_PROGRESS] = "progress",
	[OBX_PROGRESS_PKEY] = "progress_pkey",
	[OBX_RECEIPT_SEQ] = "receipt_seq",
	[OBX_DELIVERY] = "delivery",
	[OBX_DELIVERY_PKEY] = "delivery_pkey",
	[OBX_DELIVERY_OPEN_IDX] = "delivery_open_idx",
	[OBX_DELIVERY_KEY_IDX] = "delivery_key_idx",
	[OBX_WINDOW] = "aggregate_window",
	[OBX_WINDOW_KEY_IDX] = "aggregate_window_key_idx",
	[OBX_WINDOW_DUE_IDX] = "aggregate_window_due_idx",
	[OBX_REGISTERED_TYPE] = "registered_type",
	[OBX_REGISTERED_TYPE_PKEY] = "registered_type_pkey",
	[OBX_FAILURE] = "failure",
	[OBX_FAILURE_PKEY] = "failure_pkey",
	[OBX_SCHEMA_VERSION] = "schema_version",
	[OBX_SCHEMA_VERSION_PKEY] = "schema_version_pkey",
	[OBX_SCHEDULE] = "schedule",
	[OBX_SCHEDULE_PKEY] = "schedule_pkey",
	[OBX_SCHEDULE_DUE_IDX] = "schedule_due_idx",
	[OBX_SCHEDULE_KEY_IDX] = "schedule_key_idx",
	[OBX_SCHEDULE_ID_SEQ] = "schedule_id_seq",
	[OBX_SEEN_0] = "seen_0",
	[OBX_SEEN_1] = "seen_1",
	[OBX_SEEN_2] = "seen_2",
	[OBX_SEEN_0_IDX] = "seen_0_idx",
	[OBX_SEEN_1_IDX] = "seen_1_idx",
	[OBX_SEEN_2_IDX] = "seen_2_idx",
	[OBX_SEEN_TURN] = "seen_turn",
	[OBX_SEEN_TURN_IDX] = "seen_turn_idx",
};

static Oid	object_oid[OBX_OBJECT_COUNT];

/* relcache callback: InvalidOid stands for all relations */
static void
forget_object(Datum arg, Oid relid)
{
	for (int i = 0; i < OBX_OBJECT_COUNT; i++)
		if (relid == InvalidOid || object_oid[i] == relid)
			object_oid[i] = InvalidOid;
}

void
obx_names_init(void)
{
	CacheRegisterRelcacheCallback(forget_object, (Datum) 0);
}

Oid
obx_extension_find(void)
{
	return get_extension_oid(OBX_EXTENSION_NAME, true);
}

const char *
obx_library_version(void)
{
	return OBX_VERSION;
}

bool
obx_extension_is_current(char **version)
{
	Relation	table = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	*version = NULL;
	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(OBX_EXTENSION_NAME));
	scan = systable_beginscan(table, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										 RelationGetDescr(table), &isnull);

		*version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return *version != NULL && strcmp(*version, OBX_VERSION) == 0;
}

static void
report_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("extension \"%s\" is not installed in this database",
					OBX_EXTENSION_NAME),
			 errdetail("There is no schema \"%s\" with its objects.", OBX_SCHEMA_NAME),
			 errhint("Run CREATE EXTENSION %s.", OBX_EXTENSION_NAME)));
}

Oid
obx_schema_require(void)
{
	Oid			schema = get_namespace_oid(OBX_SCHEMA_NAME, true);

	if (!OidIsValid(schema))
		report_missing();
	return schema;
}

Oid
obx_object_require(ObxObject object)
{
	if (unlikely(!OidIsValid(object_oid[object])))
	{
		Oid			oid = get_relname_relid(object_name[object], obx_schema_require());

		if (!OidIsValid(oid))
			report_missing();
		object_oid[object] = oid;
	}
	return object_oid[object];
}

Oid
obx_event_type_require(void)
{
	return get_rel_type_id(obx_object_require(OBX_EVENT));
}

Oid
obx_event_array_type_require(void)
{
	return get_array_type(obx_event_type_require());
}
