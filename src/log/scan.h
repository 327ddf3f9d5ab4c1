/*
 * A scan of one partition, by its index on (xid, id).
 */
#ifndef OBX_LOG_SCAN_H
#define OBX_LOG_SCAN_H

#include "access/genam.h"
#include "access/sdir.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct ObxPartitionScan
{
	Oid			relid;
	Relation	table;
	Relation	index;
	IndexScanDesc scan;			/* of one transaction, or of a range of them */
	ScanDirection direction;
	TupleTableSlot *slot;		/* the next event */
	bool		has_event;
	int64		id;				/* of that event */
	uint64		xid;			/* of the transaction that it walks to */

	/* see obx_partition_scan_walk() */
	MemoryContext memory;		/* lives as long as the scan */
	IndexScanDesc walk;			/* NULL until it is needed */
	bool		is_walking;		/* the events come from there */
	uint64		passed_xid;		/* what it has passed is of this transaction
								 * and of earlier ones */
	bool		has_entry;		/* it stands at an entry, of transaction: */
	uint64		entry_xid;
	int			misses;			/* in a row */
	int			pause;			/* transactions until the next try */
} ObxPartitionScan;

/* False if retention has dropped the partition since it was listed. */
extern bool obx_partition_scan_open(ObxPartitionScan *scan, Oid relid, Snapshot snapshot);
extern void obx_partition_scan_close(ObxPartitionScan *scan, bool keep_lock);

/* Sets the scan before the transaction's first event after an id. */
extern void obx_partition_scan_set(ObxPartitionScan *scan, uint64 xid, int64 after_id);

/*
 * Sets the scan to the events with from <= xid <= to: before the first one or, in
 * the other direction, after the last one.
 */
extern void obx_partition_scan_set_range(ObxPartitionScan *scan, uint64 from, uint64 to,
										 ScanDirection direction);

/*
 * Like the function above for a transaction's first event, for reading many
 * small transactions one after another.  Their entries are mostly neighbours
 * in the index, so stepping on is cheaper than a descent for each; and one
 * look shows that a partition has none of them.
 */
extern void obx_partition_scan_walk(ObxPartitionScan *scan, uint64 xid);

/* Fetches the next event; returns whether there is one. */
extern bool obx_partition_scan_next(ObxPartitionScan *scan);

#endif							/* OBX_LOG_SCAN_H */
