/*
 * Sequences of ours, from below.  That of events' ids has a file of its own
 * (log/counter.c).
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "commands/sequence.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/identity.h"
#include "catalog/sequence.h"

/* The sequence is a table of one row: last_value, log_cnt, is_called. */
int64
obx_sequence_last(ObxObject sequence)
{
	Relation	rel = relation_open(obx_object_require(sequence), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = obx_table_beginscan(rel, SnapshotAny);
	int64		last = 0;
	bool		isnull;

	if (!table_scan_getnextslot(scan, ForwardScanDirection, slot))
		elog(ERROR, "sequence \"%s\" has no row", RelationGetRelationName(rel));
	if (DatumGetBool(slot_getattr(slot, 3, &isnull)))
		last = DatumGetInt64(slot_getattr(slot, 1, &isnull));
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	relation_close(rel, AccessShareLock);
	return last;
}

void
obx_sequence_raise(ObxObject sequence, int64 above)
{
	Relation	rel;
	ObxIdentity former;

	if (above <= obx_sequence_last(sequence))
		return;
	rel = relation_open(obx_object_require(sequence), AccessShareLock);
	obx_identity_assume(&former, rel->rd_rel->relowner);
	(void) DirectFunctionCall2(setval_oid, ObjectIdGetDatum(RelationGetRelid(rel)),
							   Int64GetDatum(above));
	obx_identity_restore(&former);
	relation_close(rel, NoLock);
}
