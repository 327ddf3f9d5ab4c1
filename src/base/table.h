/*
 * Reading and writing rows of our own tables, below the privilege checks.
 *
 * Rows are arrays of Datum in the order of the table's columns, never C
 * structs laid over a tuple.  What may be called where: everything needs a
 * transaction; nothing here checks a right.
 */
#ifndef OBX_TABLE_H
#define OBX_TABLE_H

#include "access/genam.h"
#include "access/htup.h"
#include "access/skey.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A scan of one table in the order of one of its indexes. */
typedef struct ObxScan
{
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	bool		own_snapshot;
	SysScanDesc scan;
	ScanDirection direction;
} ObxScan;

/* For many rows of one table. */
typedef struct ObxInserter
{
	Relation	table;
	void	   *indexes;		/* CatalogIndexState */
	bool		pushed;			/* a snapshot, see below */
} ObxInserter;

extern void obx_inserter_begin(ObxInserter *inserter, Oid table);
extern void obx_inserter_insert(ObxInserter *inserter, Datum *values, bool *nulls);
extern void obx_inserter_end(ObxInserter *inserter);

/*
 * Around what writes to a table that may keep values out of line, where no
 * statement runs; the second one takes what the first one returned.
 */
extern bool obx_active_snapshot_ensure(void);
extern void obx_active_snapshot_release(bool pushed);

extern HeapTuple obx_table_insert(Relation table, Datum *values, bool *nulls);
extern void obx_table_update(Relation table, HeapTuple old, Datum *values, bool *nulls,
							 bool *replace);
extern void obx_table_delete(Relation table, HeapTuple tuple);

/*
 * Begins a scan with the given keys (attribute numbers are the table's).
 * snapshot NULL takes a new one, which sees all transactions that are
 * committed now, and the changes of our own.
 */
extern void obx_scan_begin(ObxScan *scan, Oid table, LOCKMODE lockmode, Oid index,
						   Snapshot snapshot, ScanKey keys, int nkeys,
						   ScanDirection direction);
extern HeapTuple obx_scan_next(ObxScan *scan);
extern void obx_scan_end(ObxScan *scan);

/*
 * Of a row that is committed or the transaction's own: does the transaction's
 * snapshot see that it was inserted?  Always true at read committed.
 */
extern bool obx_tuple_is_in_snapshot(HeapTuple tuple);

/*
 * Of a system catalog: a copy of the first row whose column, which is the first
 * one of the index, has that value, or NULL.
 */
extern HeapTuple obx_table_find_row(Relation catalog, Oid index, AttrNumber column, Oid value);

/*
 * The first column of the query's rows, without nulls, in CurrentMemoryContext:
 * OIDs, or strings.
 */
extern List *obx_table_list_oids(const char *query);
extern List *obx_table_list_strings(const char *query);

/* A column of type text, of a deformed row, as a string; NULL for null.  And back. */
extern char *obx_table_get_text(const Datum *values, const bool *nulls, int column);
extern void obx_table_set_text(Datum *values, bool *nulls, int column, const char *string);

/* A value of type bigint[] to numbers, in CurrentMemoryContext; and back. */
extern int64 *obx_int64_list(Datum array, int *count);
extern Datum obx_int64_array(const int64 *numbers, int count);

#endif							/* OBX_TABLE_H */
