/*
 * Reading and writing rows of our own tables, below the privilege checks.
 *
 * A dispatcher is connected as the owner of a subscription, who has no rights
 * on these tables; so bookkeeping goes straight to heap and index.  Nothing
 * here knows a column's meaning.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/table.h"

/*
 * PostgreSQL wants a snapshot around every write to a table that may keep
 * values out of line.  Statements have one; what is written between them, or
 * when a transaction ends, may not.  An abort pops what was pushed.
 */
bool
obx_active_snapshot_ensure(void)
{
	if (ActiveSnapshotSet())
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

void
obx_active_snapshot_release(bool pushed)
{
	if (pushed)
		PopActiveSnapshot();
}

/*
 * Inserts a row and its index entries; unique indexes are checked.  The tuple
 * is returned, in CurrentMemoryContext, with its t_self.
 */
HeapTuple
obx_table_insert(Relation table, Datum *values, bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(table), values, nulls);
	bool		pushed = obx_active_snapshot_ensure();

	CatalogTupleInsert(table, tuple);
	obx_active_snapshot_release(pushed);
	return tuple;
}

void
obx_inserter_begin(ObxInserter *inserter, Oid table)
{
	inserter->pushed = obx_active_snapshot_ensure();
	inserter->table = table_open(table, RowExclusiveLock);
	inserter->indexes = CatalogOpenIndexes(inserter->table);
}

void
obx_inserter_insert(ObxInserter *inserter, Datum *values, bool *nulls)
{
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(inserter->table), values, nulls);

	CatalogTupleInsertWithInfo(inserter->table, tuple, inserter->indexes);
	heap_freetuple(tuple);
}

/* The lock is kept until the transaction ends. */
void
obx_inserter_end(ObxInserter *inserter)
{
	CatalogCloseIndexes(inserter->indexes);
	table_close(inserter->table, NoLock);
	obx_active_snapshot_release(inserter->pushed);
}

/*
 * Replaces the columns marked in "replace".  Two sessions that update one row
 * at a time are the caller's to exclude: the second one fails.
 */
void
obx_table_update(Relation table, HeapTuple old, Datum *values, bool *nulls, bool *replace)
{
	HeapTuple	tuple = heap_modify_tuple(old, RelationGetDescr(table), values, nulls,
										  replace);
	bool		pushed = obx_active_snapshot_ensure();

	CatalogTupleUpdate(table, &old->t_self, tuple);
	obx_active_snapshot_release(pushed);
	heap_freetuple(tuple);
}

void
obx_table_delete(Relation table, HeapTuple tuple)
{
	bool		pushed = obx_active_snapshot_ensure();

	CatalogTupleDelete(table, &tuple->t_self);
	obx_active_snapshot_release(pushed);
}

void
obx_scan_begin(ObxScan *scan, Oid table, LOCKMODE lockmode, Oid index, Snapshot snapshot,
			   ScanKey keys, int nkeys, ScanDirection direction)
{
	/* what this transaction wrote must be seen */
	if (snapshot == NULL)
		CommandCounterIncrement();

	scan->table = table_open(table, lockmode);
	scan->index = index_open(index, AccessShareLock);
	scan->own_snapshot = (snapshot == NULL);
	scan->snapshot = scan->own_snapshot ? RegisterSnapshot(GetLatestSnapshot()) : snapshot;
	scan->scan = systable_beginscan_ordered(scan->table, scan->index, scan->snapshot,
											nkeys, keys);
	scan->direction = direction;
}

/* NULL at the end.  The tuple is valid until the next call. */
HeapTuple
obx_scan_next(ObxScan *scan)
{
	return systable_getnext_ordered(scan->scan, scan->direction);
}

/* Locks on the table and index are kept until the transaction ends. */
void
obx_scan_end(ObxScan *scan)
{
	systable_endscan_ordered(scan->scan);
	if (scan->own_snapshot)
		UnregisterSnapshot(scan->snapshot);
	index_close(scan->index, NoLock);
	table_close(scan->table, NoLock);
}

bool
obx_tuple_is_in_snapshot(HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	return !IsolationUsesXactSnapshot() || HeapTupleHeaderXminFrozen(tuple->t_data) ||
		TransactionIdIsCurrentTransactionId(xmin) ||
		!XidInMVCCSnapshot(xmin, GetTransactionSnapshot());
}

HeapTuple
obx_table_find_row(Relation catalog, Oid index, AttrNumber column, Oid value)
{
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, column, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(value));
	scan = systable_beginscan(catalog, index, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan(scan);
	return tuple;
}

static void
run_query(const char *query)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run the query: %s", query);
}

List *
obx_table_list_oids(const char *query)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *oids = NIL;

	run_query(query);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		oid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (!isnull)
			oids = lappend_oid(oids, DatumGetObjectId(oid));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return oids;
}

List *
obx_table_list_strings(const char *query)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *strings = NIL;

	run_query(query);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *string = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (string != NULL)
			strings = lappend(strings, pstrdup(string));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return strings;
}

/* ---- values ---- */

char *
obx_table_get_text(const Datum *values, const bool *nulls, int column)
{
	return nulls[column] ? NULL : TextDatumGetCString(values[column]);
}

void
obx_table_set_text(Datum *values, bool *nulls, int column, const char *string)
{
	nulls[column] = (string == NULL);
	values[column] = string == NULL ? (Datum) 0 : CStringGetTextDatum(string);
}


int64 *
obx_int64_list(Datum array, int *count)
{
	ArrayType  *value = DatumGetArrayTypeP(array);
	int64	   *numbers;

	if (ARR_ELEMTYPE(value) != INT8OID || ARR_HASNULL(value))
		elog(ERROR, "expected an array of bigint without nulls");
	*count = ArrayGetNItems(ARR_NDIM(value), ARR_DIMS(value));
	numbers = palloc(*count * sizeof(int64));
	memcpy(numbers, ARR_DATA_PTR(value), *count * sizeof(int64));
	return numbers;
}

Datum
obx_int64_array(const int64 *numbers, int count)
{
	Datum	   *elements = palloc(count * sizeof(Datum));
	ArrayType  *array;

	for (int i = 0; i < count; i++)
		elements[i] = Int64GetDatum(numbers[i]);
	array = construct_array(elements, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
							TYPALIGN_DOUBLE);
	pfree(elements);
	return PointerGetDatum(array);
}
