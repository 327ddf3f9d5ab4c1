/*
 * Rows of outbox.schema_version: which columns a captured table had.
 *
 * Rows are only ever added.  The caller holds a lock on the captured table, so
 * that only one process adds its versions.  Must not know what makes a
 * version.
 */
#include "postgres.h"

#include "access/table.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "catalog/schema_version.h"

/* Columns of outbox.schema_version. */
enum
{
	SOURCE,
	VERSION,
	DEFINITION,
	SINCE,
	COLUMNS
};

static void
begin_scan(ObxScan *scan, const char *source, const int *version)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], SOURCE + 1, BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(source));
	if (version != NULL)
		ScanKeyInit(&keys[1], VERSION + 1, BTEqualStrategyNumber, F_INT4EQ,
					Int32GetDatum(*version));
	obx_scan_begin(scan, obx_object_require(OBX_SCHEMA_VERSION), AccessShareLock,
				   obx_object_require(OBX_SCHEMA_VERSION_PKEY), NULL, keys,
				   version != NULL ? 2 : 1, BackwardScanDirection);
}

static Jsonb *
get_columns(HeapTuple tuple, Relation table)
{
	bool		isnull;

	return DatumGetJsonbPCopy(heap_getattr(tuple, DEFINITION + 1, RelationGetDescr(table),
										   &isnull));
}

Jsonb *
obx_schema_version_find(const char *source, int version)
{
	ObxScan		scan;
	HeapTuple	tuple;
	Jsonb	   *columns = NULL;

	begin_scan(&scan, source, &version);
	tuple = obx_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
		columns = get_columns(tuple, scan.table);
	obx_scan_end(&scan);
	return columns;
}

int
obx_schema_version_last(const char *source, Jsonb **columns)
{
	ObxScan		scan;
	HeapTuple	tuple;
	int			version = 0;

	*columns = NULL;
	begin_scan(&scan, source, NULL);
	tuple = obx_scan_next(&scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		version = DatumGetInt32(heap_getattr(tuple, VERSION + 1, RelationGetDescr(scan.table),
											 &isnull));
		*columns = get_columns(tuple, scan.table);
	}
	obx_scan_end(&scan);
	return version;
}

void
obx_schema_version_insert(const char *source, int version, Jsonb *columns)
{
	Relation	table = table_open(obx_object_require(OBX_SCHEMA_VERSION), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	values[SOURCE] = CStringGetTextDatum(source);
	values[VERSION] = Int32GetDatum(version);
	values[DEFINITION] = JsonbPGetDatum(columns);
	values[SINCE] = TimestampTzGetDatum(GetCurrentTimestamp());
	obx_table_insert(table, values, nulls);
	table_close(table, NoLock);
}
