/*
 * A scan of one partition, by its index on (xid, id).
 */
#ifndef OBX_LOG_SCAN_H
#define OBX_LOG_SCAN_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

typedef struct ObxPartitionScan
{
	Oid			relid;
	Relation	table;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* the next event */
	bool		has_event;
	int64		id;				/* of that event */
} ObxPartitionScan;

/* False if retention has dropped the partition since it was listed. */
extern bool obx_partition_scan_open(ObxPartitionScan *scan, Oid relid, Snapshot snapshot,
									int nkeys);
extern void obx_partition_scan_close(ObxPartitionScan *scan, bool keep_lock);

/* Sets the scan, which has two keys, before the transaction's first event after an id. */
extern void obx_partition_scan_set(ObxPartitionScan *scan, uint64 xid, int64 after_id);

/* Fetches the next event. */
extern void obx_partition_scan_next(ObxPartitionScan *scan);

#endif							/* OBX_LOG_SCAN_H */
