/*
 * Writing rows into a partition of the log.
 *
 * Rows go directly to heap and index, below privileges, triggers and row
 * security; only this code can do that.  Many entries at a time are added to
 * the partition's own index.  Indexes that an administrator added are written
 * as for any table.
 *
 * A partition stays locked in ROW EXCLUSIVE mode until the transaction ends.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "base/compat.h"
#include "log/event.h"
#include "log/generation.h"
#include "log/order_index.h"
#include "log/partition.h"
#include "log/write.h"

/*
 * Opens the partition for a time.  Waiting for the lock may bring the news
 * that it is another one now: it was dropped, or one was made in front of the
 * default partition.
 */
Relation
obx_write_open_partition(TimestampTz time)
{
	for (int tries = 0; tries < 10; tries++)
	{
		Oid			relid = obx_partition_find(time);
		Relation	partition = try_relation_open(relid, RowExclusiveLock);

		if (partition == NULL)
			continue;
		if (obx_partition_find(time) != relid)
		{
			relation_close(partition, NoLock);
			continue;
		}
		if (partition->rd_rel->relkind == RELKIND_RELATION &&
			partition->rd_rel->relispartition &&
			RelationGetNumberOfAttributes(partition) == OBX_EVENT_COLUMNS)
			return partition;
		relation_close(partition, NoLock);
		elog(ERROR, "partition %u of outbox.event cannot hold events",
			 RelationGetRelid(partition));
	}
	elog(ERROR, "could not find a partition of outbox.event");
	return NULL;				/* keep the compiler quiet */
}

static void
insert_order_entries(Relation partition, Relation index, TupleTableSlot **slots, const int64 *ids,
					 int count)
{
	ObxOrderEntry one;
	ObxOrderEntry *entries = count == 1 ? &one : palloc(count * sizeof(ObxOrderEntry));

	for (int i = 0; i < count; i++)
	{
		entries[i].id = ids[i];
		entries[i].tid = slots[i]->tts_tid;
	}
	obx_order_index_insert(partition, index, obx_generation_own_xid(), entries, count);
	if (entries != &one)
		pfree(entries);
}

/* Into an index that an administrator added. */
static void
insert_index_entries(Relation partition, Relation index, TupleTableSlot **slots, int count)
{
	IndexInfo  *info = BuildIndexInfo(index);
	EState	   *estate = CreateExecutorState();
	ExprContext *econtext = GetPerTupleExprContext(estate);
	ExprState  *predicate = NULL;
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	if (info->ii_Predicate != NIL)
		predicate = ExecPrepareQual(info->ii_Predicate, estate);

	for (int i = 0; i < count; i++)
	{
		ResetExprContext(econtext);
		econtext->ecxt_scantuple = slots[i];
		if (predicate != NULL && !ExecQual(predicate, econtext))
			continue;
		FormIndexDatum(info, slots[i], estate, values, isnull);
		obx_index_insert(index, values, isnull, &slots[i]->tts_tid, partition,
						 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
						 info);
	}

	obx_index_insert_cleanup(index, info);
	FreeExecutorState(estate);
}

static void
insert_into_index(Relation partition, Oid indexid, TupleTableSlot **slots, const int64 *ids,
				  int count)
{
	Relation	index = index_open(indexid, RowExclusiveLock);

	/* one that CREATE INDEX CONCURRENTLY has not built yet has no pages */
	if (!index->rd_index->indisready)
		;
	else if (obx_order_index_is(index))
		insert_order_entries(partition, index, slots, ids, count);
	else
		insert_index_entries(partition, index, slots, count);
	index_close(index, NoLock);
}

void
obx_write_rows(Relation partition, TupleTableSlot **slots, const int64 *ids, int count)
{
	List	   *indexes;
	ListCell   *lc;

	if (count == 1)
		table_tuple_insert(partition, slots[0], GetCurrentCommandId(true), 0, NULL);
	else
		table_multi_insert(partition, slots, count, GetCurrentCommandId(true), 0, NULL);

	/* there is one, most often: no copy of the list then */
	if (partition->rd_indexvalid && list_length(partition->rd_indexlist) == 1)
	{
		insert_into_index(partition, linitial_oid(partition->rd_indexlist), slots, ids, count);
		return;
	}
	indexes = RelationGetIndexList(partition);
	foreach(lc, indexes)
		insert_into_index(partition, lfirst_oid(lc), slots, ids, count);
	list_free(indexes);
}
