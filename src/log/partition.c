/*
 * Partitions of the log: which there are, and making them ahead of need.
 *
 * Writers look partitions up in a cache of their own and never lock the
 * parent.  A partition is made by CREATE TABLE and ATTACH, because that takes
 * SHARE UPDATE EXCLUSIVE on the parent where PARTITION OF takes ACCESS
 * EXCLUSIVE; the default partition must be locked exclusively for a moment,
 * so all locks are taken with NOWAIT, and where that fails the next timer
 * tries again: partitions are made well before they are needed.  Only if that
 * has failed until there is none for now is the lock waited for, a moment.
 *
 * Must not know who calls, nor what events mean.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/tablespace.h"
#include "executor/spi.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/guard.h"
#include "base/identity.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "log/event.h"
#include "log/partition.h"

/* how far ahead, beside two intervals */
#define OBX_PARTITION_AHEAD	(10 * USECS_PER_SEC)

/* attempts that must fail first, with nobody waiting */
#define OBX_REFUSALS		20

/* how many milliseconds producers may then wait for a partition to be made */
#define OBX_FIRST_PATIENCE	50
#define OBX_LONGEST_PATIENCE	200

/* more than one call ever needs */
#define OBX_PARTITION_BATCH	20

static struct
{
	MemoryContext memory;
	bool		valid;
	bool		news;			/* since loading began */
	int			count;
	ObxPartition *partitions;	/* by bounds, the default one last */
	Oid			parent;
	ObxPartition *last;			/* the one last found */
}			cache;

static void
forget_partitions(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == cache.parent)
	{
		cache.valid = false;
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
	log = table_open(cache.parent, AccessShareLock);
	desc = obx_partition_desc(log);

	if (cache.memory == NULL)
		cache.memory = AllocSetContextCreate(CacheMemoryContext, "pg_outbox partitions",
											 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(cache.memory);
	cache.last = NULL;
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

Oid
obx_partition_find(TimestampTz time)
{
	int			low;

	require_cache();
	if (likely(cache.last != NULL && time >= cache.last->lower && time < cache.last->upper))
		return cache.last->relid;

	low = find_reaching(time);
	if (cache.partitions[low].lower > time)
		low = cache.count - 1;
	if (!cache.partitions[low].is_default)
		cache.last = &cache.partitions[low];
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

/* ---- making them ---- */

static TimestampTz
interval_start(TimestampTz time, int64 interval)
{
	int64		start = time - time % interval;

	return start > time ? start - interval : start;
}

/* The last time among the default partition's events at or after "from". */
static bool
find_default_time(TimestampTz from, TimestampTz *last)
{
	Oid			type = TIMESTAMPTZOID;
	Datum		value = TimestampTzGetDatum(from);
	bool		isnull;

	if (SPI_execute_with_args("SELECT pg_catalog.max(\"time\") FROM outbox.event_default"
							  " WHERE \"time\" OPERATOR(pg_catalog.>=) $1",
							  1, &type, &value, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.event_default");
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		*last = DatumGetTimestampTz(value);
	return !isnull;
}

static void
execute_ddl(const char *command)
{
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\"", command);
}

/* An ISO 8601 timestamp in UTC, read the same under every DateStyle. */
static char *
format_bound(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("%04d-%02d-%02d %02d:%02d:%02d+00", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static char *
format_name(TimestampTz lower)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(lower, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return psprintf("event_p%04d%02d%02d_%02d%02d%02d", tm.tm_year, tm.tm_mon, tm.tm_mday,
					tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void
create_partition(TimestampTz lower, TimestampTz upper)
{
	char	   *name = format_name(lower);

	execute_ddl(psprintf("CREATE TABLE outbox.%s"
						 " (LIKE outbox.event INCLUDING DEFAULTS INCLUDING STORAGE)",
						 name));
	execute_ddl(psprintf("CREATE INDEX ON outbox.%s (xid, id) WITH (deduplicate_items = off)",
						 name));
	execute_ddl(psprintf("ALTER TABLE outbox.event ATTACH PARTITION outbox.%s"
						 " FOR VALUES FROM ('%s') TO ('%s')",
						 name, format_bound(lower), format_bound(upper)));
	/* statement-level triggers are not cloned from the parent */
	execute_ddl(psprintf("CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE"
						 " OR TRUNCATE ON outbox.%s"
						 " FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()",
						 name));
	execute_ddl(psprintf("ALTER TABLE outbox.%s ENABLE ALWAYS TRIGGER refuse_change", name));
}

/* Where the next partition begins; false when there are enough. */
static bool
find_next_start(TimestampTz now, int64 interval, TimestampTz *start)
{
	TimestampTz last = DT_NOBEGIN;

	require_cache();
	for (int i = 0; i < cache.count; i++)
		if (!cache.partitions[i].is_default)
			last = Max(last, cache.partitions[i].upper);

	*start = Max(last, interval_start(now, interval));
	return *start < now + Max(2 * interval, OBX_PARTITION_AHEAD);
}

/* Makes what is missing, as the log's owner and inside SPI. */
static int
create_partitions(TimestampTz now, int64 interval)
{
	TimestampTz start;
	TimestampTz last;
	int			made = 0;

	while (made < OBX_PARTITION_BATCH && find_next_start(now, interval, &start))
	{
		/*
		 * A partition cannot be made under rows of the default one: then it
		 * begins with the next minute.
		 */
		if (find_default_time(start, &last))
			start = interval_start(Max(last, now), Min(interval, USECS_PER_MINUTE)) +
				Min(interval, USECS_PER_MINUTE);
		create_partition(start, interval_start(start, interval) + interval);
		CommandCounterIncrement();
		made++;
	}
	return made;
}

/*
 * Undone with the nest level.  Whoever calls run() must not decide how and
 * where the log is stored: events are written as heap tuples, and the parent
 * says in which tablespace.
 */
static void
set_storage(Relation log)
{
	Oid			tablespace = log->rd_rel->reltablespace;

	(void) set_config_option("default_table_access_method", "heap", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("default_tablespace",
							 OidIsValid(tablespace) ? get_tablespace_name(tablespace) : "",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* obx_guard_call's function: waits so many milliseconds. */
static void
wait_for_default(void *arg)
{
	int			nest_level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", psprintf("%d", *(int *) arg), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(obx_object_require(OBX_EVENT_DEFAULT), AccessExclusiveLock);
	AtEOXact_GUC(true, nest_level);
}

/*
 * Locks the default partition; false if it is in use.  Without a partition for
 * now, every producer uses it, and there might never be a moment without one:
 * if that lasts, they have to wait for us, a little longer each time.  One
 * transaction that stays open is no such case for long, and would make all
 * others feel each attempt; so a worker tries many times before, and a session
 * that calls run() never waits.
 */
static bool
lock_default(bool urgent)
{
	static int	patience = OBX_FIRST_PATIENCE;
	static int	refusals = 0;
	ErrorData  *error;

	if (ConditionalLockRelationOid(obx_object_require(OBX_EVENT_DEFAULT), AccessExclusiveLock))
	{
		refusals = 0;
		return true;
	}
	if (!urgent || !obx_is_background_worker() || ++refusals < OBX_REFUSALS)
		return false;

	error = obx_guard_call(wait_for_default, &patience, CurrentMemoryContext);
	if (error != NULL && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		ReThrowError(error);
	patience = error == NULL ? OBX_FIRST_PATIENCE : Min(patience * 2, OBX_LONGEST_PATIENCE);
	return error == NULL;
}

bool
obx_partition_prepare(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		interval = obx_partition_interval * USECS_PER_SEC;
	TimestampTz start;
	ObxIdentity former;
	int			made;
	Relation	log;

	if (!find_next_start(now, interval, &start))
		return false;
	if (!ConditionalLockRelationOid(obx_object_require(OBX_EVENT), ShareUpdateExclusiveLock) ||
		!lock_default(start <= now))
		return false;

	log = table_open(obx_object_require(OBX_EVENT), NoLock);
	obx_identity_assume(&former, log->rd_rel->relowner);
	set_storage(log);
	table_close(log, NoLock);

	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	made = create_partitions(now, interval);
	SPI_finish();
	PopActiveSnapshot();

	obx_identity_restore(&former);
	return made > 0;
}
