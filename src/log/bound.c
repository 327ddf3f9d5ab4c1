/*
 * The bounds of one partition of the log.
 *
 * The parent's descriptor has those of all partitions, and is built anew by
 * every session whenever there is one more or less, which takes milliseconds
 * where there are many.  A caller that needs only one partition, and has an
 * idea which one, asks the catalogs about that one: bounds never overlap, so
 * it is the right one if its bounds say so.
 *
 * Must not know which partitions there are, nor who makes them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "log/bound.h"

/* ---- as the catalogs say ---- */

/* Is it a child of the log, and to stay one? */
static bool
is_attached(Oid relid)
{
	Relation	inherits = table_open(InheritsRelationId, AccessShareLock);
	HeapTuple	tuple = obx_table_find_row(inherits, InheritsRelidSeqnoIndexId,
										   Anum_pg_inherits_inhrelid, relid);

	table_close(inherits, AccessShareLock);
	return tuple != NULL && !obx_is_being_detached(tuple) &&
		((Form_pg_inherits) GETSTRUCT(tuple))->inhparent == obx_object_require(OBX_EVENT);
}

/* One end of a range over time; false if it has none. */
static bool
get_end(List *datums, TimestampTz *time)
{
	PartitionRangeDatum *datum;
	Const	   *value;

	if (list_length(datums) != 1)
		return false;
	datum = linitial_node(PartitionRangeDatum, datums);
	if (datum->kind != PARTITION_RANGE_DATUM_VALUE)
		return false;
	value = castNode(Const, datum->value);
	*time = DatumGetTimestampTz(value->constvalue);
	return !value->constisnull;
}

/* The bounds that the row of pg_class has; false if they are those of no range. */
static bool
get_bounds(HeapTuple tuple, ObxPartition *partition)
{
	bool		isnull;
	Datum		stored = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &isnull);
	PartitionBoundSpec *bound;

	if (isnull || !((Form_pg_class) GETSTRUCT(tuple))->relispartition)
		return false;
	bound = castNode(PartitionBoundSpec, stringToNode(TextDatumGetCString(stored)));
	return !bound->is_default && bound->strategy == PARTITION_STRATEGY_RANGE &&
		get_end(bound->lowerdatums, &partition->lower) &&
		get_end(bound->upperdatums, &partition->upper);
}

bool
obx_bound_read(Oid relid, ObxPartition *partition)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	bool		found;

	if (!HeapTupleIsValid(tuple))
		return false;
	/* the parent first: elsewhere bounds may be of another type */
	found = is_attached(relid) && get_bounds(tuple, partition);
	ReleaseSysCache(tuple);
	partition->relid = relid;
	partition->is_default = false;
	return found;
}

/* ---- as they are written ---- */

TimestampTz
obx_bound_start(TimestampTz time, int64 interval)
{
	int64		start = time - time % interval;

	return start > time ? start - interval : start;
}

static void
decode_time(TimestampTz time, struct pg_tm *tm)
{
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
}

char *
obx_bound_format(TimestampTz time)
{
	struct pg_tm tm;

	decode_time(time, &tm);
	return psprintf("%04d-%02d-%02d %02d:%02d:%02d+00", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

char *
obx_bound_name(TimestampTz lower)
{
	struct pg_tm tm;

	decode_time(lower, &tm);
	return psprintf("event_p%04d%02d%02d_%02d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

/* ---- by name ---- */

/* Between two tables there are their indexes, by name. */
#define OBX_GUESS_NAMES	16

Oid
obx_bound_guess(TimestampTz time)
{
	Relation	classes = table_open(RelationRelationId, AccessShareLock);
	Relation	index = index_open(ClassNameNspIndexId, AccessShareLock);
	Oid			schema = obx_schema_require();
	Oid			found = InvalidOid;
	NameData	name;
	ScanKeyData key;
	SysScanDesc scan;

	namestrcpy(&name, obx_bound_name(time));
	ScanKeyInit(&key, Anum_pg_class_relname, BTLessEqualStrategyNumber, F_NAMELE,
				NameGetDatum(&name));
	scan = systable_beginscan_ordered(classes, index, NULL, 1, &key);
	for (int i = 0; i < OBX_GUESS_NAMES && !OidIsValid(found); i++)
	{
		HeapTuple	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
		Form_pg_class row;

		if (!HeapTupleIsValid(tuple))
			break;
		row = (Form_pg_class) GETSTRUCT(tuple);
		if (row->relnamespace == schema && row->relkind == RELKIND_RELATION)
			found = row->oid;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(classes, AccessShareLock);
	return found;
}
