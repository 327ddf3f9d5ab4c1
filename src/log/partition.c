/*
 * Partitions of the log: which there are.
 *
 * Writers look partitions up in a cache of their own and never lock the
 * parent, but for loading that cache.  They do without where they can: loading
 * takes longer the more partitions there are, and each one that is made or
 * dropped makes every session load anew.  The partition that a writer used last
 * remains the right one, if its own entry says so; and where it used none yet,
 * the names that ahead.c gives tell where to look.
 *
 * Must not know who calls, nor what events mean.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/bound.h"
#include "log/event.h"
#include "log/partition.h"

static struct
{
	MemoryContext memory;
	bool		valid;
	bool		news;			/* since loading began */
	uint64		version;		/* counts how often it was loaded */
	int			count;
	ObxPartition *partitions;	/* by bounds, the default one last */
	Oid			parent;
	ObxPartition found;			/* the one last found; relid 0: none yet */
	bool		found_stands;	/* no news since */
}			cache;

static void
forget_partitions(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == cache.parent)
	{
		cache.valid = false;
		cache.found_stands = false;
		cache.news = true;
	}
}

void
obx_partition_init(void)
{
	CacheRegisterRelcacheCallback(forget_partitions, (Datum) 0);
}

/* ---- which there are ---- */

/* Copies the bounds out of the partition descriptor, in their order. */
static int
copy_partitions(PartitionDesc desc, ObxPartition *partitions)
{
	PartitionBoundInfo bounds = desc->boundinfo;
	int			count = 0;

	for (int i = 1; i < bounds->ndatums; i++)
	{
		int			index = bounds->indexes[i];

		/* the range between datums i - 1 and i, unless it is a gap */
		if (index < 0)
			continue;
		if (bounds->kind[i - 1][0] != PARTITION_RANGE_DATUM_VALUE ||
			bounds->kind[i][0] != PARTITION_RANGE_DATUM_VALUE)
			elog(ERROR, "partition %u of outbox.event is unbounded", desc->oids[index]);
		partitions[count].relid = desc->oids[index];
		partitions[count].is_default = false;
		partitions[count].lower = DatumGetTimestampTz(bounds->datums[i - 1][0]);
		partitions[count].upper = DatumGetTimestampTz(bounds->datums[i][0]);
		count++;
	}

	if (bounds->default_index < 0)
		elog(ERROR, "outbox.event has no default partition");
	partitions[count].relid = desc->oids[bounds->default_index];
	partitions[count].is_default = true;
	partitions[count].lower = DT_NOBEGIN;
	partitions[count].upper = DT_NOEND;
	return count + 1;
}

static void
load_partitions(void)
{
	Relation	log;
	PartitionDesc desc;

	cache.parent = obx_object_require(OBX_EVENT);
	cache.news = false;
	cache.version++;
	log = table_open(cache.parent, AccessShareLock);
	desc = obx_partition_desc(log);

	if (cache.memory == NULL)
		cache.memory = AllocSetContextCreate(CacheMemoryContext, "pg_outbox partitions",
											 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(cache.memory);
	cache.partitions = MemoryContextAlloc(cache.memory,
										  (desc->nparts + 1) * sizeof(ObxPartition));
	cache.count = copy_partitions(desc, cache.partitions);
	cache.valid = !cache.news;
	table_close(log, AccessShareLock);
}

/*
 * News that come while it is loaded make it be loaded again next time, and not
 * at once, or it might never end.  They are of changes since then, which our
 * callers need not know: who reads has taken its snapshot before, and who
 * writes has locked the partition that it asks about.
 */
static inline void
require_cache(void)
{
	if (unlikely(!cache.valid))
		load_partitions();
}

const ObxPartition *
obx_partition_array(int *count)
{
	/*
	 * A partition's news were sent before anyone could write to it: who takes
	 * a snapshot first and asks then knows every partition the snapshot sees
	 * events in.
	 */
	AcceptInvalidationMessages();
	require_cache();
	*count = cache.count;
	return cache.partitions;
}

uint64
obx_partition_version(void)
{
	AcceptInvalidationMessages();
	require_cache();
	return cache.version;
}

List *
obx_partition_list(void)
{
	int			count;
	const ObxPartition *partitions = obx_partition_array(&count);
	List	   *list = NIL;

	for (int i = 0; i < count; i++)
		list = lappend(list, unconstify(ObxPartition *, &partitions[i]));
	return list;
}

/* The first partition whose upper bound lies beyond; the default one's does. */
static int
find_reaching(TimestampTz time)
{
	int			low = 0;
	int			high = cache.count - 1;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (cache.partitions[middle].upper > time)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

const ObxPartition *
obx_partitions_between(TimestampTz first, TimestampTz last, int *count)
{
	int			all;
	const ObxPartition *partitions = obx_partition_array(&all);
	int			from = find_reaching(first);
	int			to = from;

	while (!partitions[to].is_default && partitions[to].lower <= last)
		to++;
	*count = to - from;
	return &partitions[from];
}

static inline bool
covers(const ObxPartition *partition, TimestampTz time)
{
	return time >= partition->lower && time < partition->upper;
}

/* The partition to ask about first, InvalidOid if there is no telling. */
static Oid
guess(TimestampTz time)
{
	if (OidIsValid(cache.found.relid) && covers(&cache.found, time))
		return cache.found.relid;
	return obx_bound_guess(time);
}

/* Finds it without knowing the others; false if it is not the one guessed. */
static bool
find_alone(TimestampTz time)
{
	Oid			relid = guess(time);
	ObxPartition partition;

	if (!OidIsValid(relid))
		return false;
	/* what comes while it is read makes it be read again next time */
	cache.parent = obx_object_require(OBX_EVENT);
	cache.found_stands = true;
	if (obx_bound_read(relid, &partition) && covers(&partition, time))
	{
		cache.found = partition;
		return true;
	}
	cache.found_stands = false;
	return false;
}

Oid
obx_partition_find(TimestampTz time)
{
	int			low;

	if (likely(cache.found_stands && covers(&cache.found, time)))
		return cache.found.relid;
	if (!cache.valid && find_alone(time))
		return cache.found.relid;

	require_cache();
	low = find_reaching(time);
	if (cache.partitions[low].lower > time)
		low = cache.count - 1;
	if (!cache.partitions[low].is_default)
	{
		cache.found = cache.partitions[low];
		cache.found_stands = cache.valid;
	}
	return cache.partitions[low].relid;
}

/* A B-tree that has its first two columns in ascending order? */
static bool
is_ascending(HeapTuple index)
{
	bool		isnull;
	int2vector *options = (int2vector *)
	DatumGetPointer(SysCacheGetAttr(INDEXRELID, index, Anum_pg_index_indoption, &isnull));
	HeapTuple	class = SearchSysCache1(RELOID,
										ObjectIdGetDatum(((Form_pg_index) GETSTRUCT(index))->indexrelid));
	bool		ascending;

	ascending = HeapTupleIsValid(class) && !isnull &&
		((Form_pg_class) GETSTRUCT(class))->relam == BTREE_AM_OID &&
		options->values[0] == 0 && options->values[1] == 0;
	if (HeapTupleIsValid(class))
		ReleaseSysCache(class);
	return ascending;
}

Oid
obx_partition_index(Relation partition)
{
	List	   *indexes = RelationGetIndexList(partition);
	Oid			found = InvalidOid;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for index %u", lfirst_oid(lc));
		index = (Form_pg_index) GETSTRUCT(tuple);
		if (index->indisvalid && index->indnatts == 2 && is_ascending(tuple) &&
			index->indkey.values[0] == OBX_EVENT_XID + 1 &&
			index->indkey.values[1] == OBX_EVENT_ID + 1 &&
			heap_attisnull(tuple, Anum_pg_index_indpred, NULL))
			found = lfirst_oid(lc);
		ReleaseSysCache(tuple);
		if (OidIsValid(found))
			break;
	}
	list_free(indexes);

	if (!OidIsValid(found))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("partition \"%s\" of the event log has no index on (xid, id)",
						RelationGetRelationName(partition)),
				 errhint("Create it: events cannot be read without.")));
	return found;
}
