/*
 * The row of outbox.segment at a position.
 *
 * While a snapshot is held, the rows that retention has deleted stay in the
 * index, and a search for the last row before a deleted position walks over
 * all of them.  But segments are deleted from the first one on and in no other
 * way: one row that the snapshot sees as deleted says that everything before
 * it is, too.  So a probe looks at rows whether they are visible or not, and
 * ends at that one.  Rows that were never inserted, by transactions that
 * aborted, say nothing, and are passed over.
 *
 * Must not know what segments are for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/probe.h"

void
obx_probe_begin(ObxProbe *probe, Snapshot snapshot)
{
	if (snapshot == NULL)
		CommandCounterIncrement();
	probe->own_snapshot = (snapshot == NULL);
	probe->snapshot = probe->own_snapshot ? RegisterSnapshot(GetLatestSnapshot()) : snapshot;
	probe->table = table_open(obx_object_require(OBX_SEGMENT), AccessShareLock);
	probe->index = index_open(obx_object_require(OBX_SEGMENT_PKEY), AccessShareLock);
	probe->slot = table_slot_create(probe->table, NULL);
	probe->scan = obx_index_beginscan(probe->table, probe->index, SnapshotAny, 1);
}

/* Locks on the table and index are kept until the transaction ends. */
void
obx_probe_end(ObxProbe *probe)
{
	index_endscan(probe->scan);
	ExecDropSingleTupleTableSlot(probe->slot);
	index_close(probe->index, NoLock);
	table_close(probe->table, NoLock);
	if (probe->own_snapshot)
		UnregisterSnapshot(probe->snapshot);
}

/*
 * Of a row that the snapshot does not see: did it see it before it was deleted?
 * What a superuser has updated has a later version, which is found as well.
 */
static bool
is_deleted(const ObxProbe *probe, HeapTuple tuple)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(tuple->t_data);

	if (!ItemPointerEquals(&tuple->t_self, &tuple->t_data->t_ctid))
		return false;
	if (!TransactionIdIsNormal(xmin))
		return xmin == FrozenTransactionId;
	return !XidInMVCCSnapshot(xmin, probe->snapshot) && TransactionIdDidCommit(xmin);
}

HeapTuple
obx_probe_at(ObxProbe *probe, int64 position)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(position));
	index_rescan(probe->scan, &key, 1, NULL, 0);
	while (index_getnext_slot(probe->scan, BackwardScanDirection, probe->slot))
	{
		bool		should_free;
		HeapTuple	tuple = ExecFetchSlotHeapTuple(probe->slot, false, &should_free);

		CHECK_FOR_INTERRUPTS();
		if (table_tuple_satisfies_snapshot(probe->table, probe->slot, probe->snapshot))
			return tuple;
		if (is_deleted(probe, tuple))
			return NULL;
	}
	return NULL;
}
