/*
 * Dropping what nobody needs any more: whole partitions, oldest first, and
 * the segments over them.
 *
 * An ACCESS EXCLUSIVE lock on a partition proves that no open or prepared
 * transaction has written to it, since a writer keeps its lock to the end;
 * what then is visible and beyond the newest segment's snapshot has no
 * position yet and keeps the partition.  No lock is waited for: a reader or a
 * pg_dump in the way means "next time", for a lock that waits in the queue
 * would stop every producer behind it.  Age is that of the segments, because
 * a transaction may commit long after its events' time.
 *
 * Must not know subscribers: it is told from where on events are needed.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "log/immutable.h"
#include "log/partition.h"
#include "log/retention.h"
#include "log/segment.h"

/* What is known of the segments that reach into a partition. */
typedef struct Reach
{
	int64		last_position;	/* 0 if there are none */
	TimestampTz time;			/* of the newest of them */
} Reach;

/* ---- what may go ---- */

static Datum
query_value(const char *query, int nargs, Oid *types, Datum *values, int column, bool *isnull)
{
	if (SPI_execute_with_args(query, nargs, types, values, NULL, false, 1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not execute \"%s\"", query);
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

/* The segments that hold events from before a time. */
static Reach
find_reach(TimestampTz upper)
{
	Oid			type = TIMESTAMPTZOID;
	Datum		value = TimestampTzGetDatum(upper);
	Reach		reach = {0};
	bool		isnull;

	value = query_value("SELECT pg_catalog.max(first_position OPERATOR(pg_catalog.+) events"
						" OPERATOR(pg_catalog.-) 1), pg_catalog.max(\"time\")"
						" FROM outbox.segment WHERE min_time OPERATOR(pg_catalog.<) $1",
						1, &type, &value, 1, &isnull);
	if (isnull)
		return reach;
	reach.last_position = DatumGetInt64(value);
	reach.time = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0],
												   SPI_tuptable->tupdesc, 2, &isnull));
	return reach;
}

static bool
is_older(TimestampTz time, int seconds, TimestampTz now)
{
	return seconds >= 0 && time <= now - seconds * USECS_PER_SEC;
}

/* Is everything that reaches into the partition past its time? */
static bool
is_expired(TimestampTz upper, Reach reach, int64 needed_from, TimestampTz now)
{
	TimestampTz time = reach.last_position > 0 ? reach.time : upper;

	if (upper > now)
		return false;
	if (is_older(time, obx_max_retention, now))
		return true;
	return is_older(time, obx_retention, now) && reach.last_position < needed_from;
}

/*
 * Can a partition that begins then hold anything past its time?  Segments are
 * made after their events; finding those that reach into it reads them all.
 */
static bool
may_expire(TimestampTz lower, TimestampTz now)
{
	return is_older(lower, obx_retention, now) || is_older(lower, obx_max_retention, now);
}

/* Has the partition a visible event without a position?  SPI is connected. */
static bool
has_unpositioned(Oid partition)
{
	ObxSegment *last = obx_segment_find_last(NULL);
	Oid			type = PG_SNAPSHOTOID;
	Datum		value;
	bool		isnull;

	value = obx_snapshot_to_datum(last != NULL ? last->snapshot : obx_snapshot_empty());
	value = query_value(psprintf("SELECT EXISTS (SELECT FROM outbox.%s"
								 " WHERE NOT pg_catalog.pg_visible_in_snapshot(xid, $1))",
								 quote_identifier(get_rel_name(partition))),
						1, &type, &value, 1, &isnull);
	return DatumGetBool(value);
}

/* ---- dropping ---- */

/* Locks all that dropping needs; false if anything is in use. */
static bool
lock_partition(const ObxPartition *partition)
{
	return obx_segment_lock(false) &&
		ConditionalLockRelationOid(obx_object_require(OBX_EVENT), AccessExclusiveLock) &&
		ConditionalLockRelationOid(obx_object_require(OBX_EVENT_DEFAULT),
								   AccessExclusiveLock) &&
		ConditionalLockRelationOid(partition->relid, AccessExclusiveLock);
}

static void
drop_partition(const ObxPartition *partition)
{
	const char *name = quote_identifier(get_rel_name(partition->relid));
	const char *command = psprintf(partition->is_default ? "TRUNCATE outbox.%s" :
								   "DROP TABLE outbox.%s", name);

	obx_immutable_suspend(true);
	if (SPI_execute(command, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\"", command);
	obx_immutable_suspend(false);
	CommandCounterIncrement();
}

/*
 * Forgets the positions up to and with one.  The newest segment says where
 * the log's end is: if it goes, one without events takes its place.
 */
static void
drop_segments(int64 last_position)
{
	ObxSegment *last = obx_segment_find_last(NULL);

	if (last != NULL && last->events > 0 && obx_segment_last_position(last) <= last_position)
	{
		ObxSegment	end = {
			.first_position = obx_segment_last_position(last) + 1,
			.time = last->time,
			.snapshot = last->snapshot
		};

		obx_segment_insert(&end, last);
	}
	obx_segment_delete_before(last_position + 1);
}

/* The end of what the default partition holds; false if it is empty. */
static bool
find_default_upper(TimestampTz *upper)
{
	bool		isnull;
	Datum		value = query_value("SELECT pg_catalog.max(\"time\") FROM outbox.event_default",
									0, NULL, NULL, 1, &isnull);

	if (!isnull)
		*upper = DatumGetTimestampTz(value) + 1;
	return !isnull;
}

/* Drops one partition if it may go.  SPI is connected. */
static bool
try_partition(const ObxPartition *partition, ObxNeededFrom needed_from, TimestampTz now)
{
	TimestampTz upper = partition->upper;
	Reach		reach;

	if (partition->is_default && !find_default_upper(&upper))
		return false;
	/* the cheap test first; what it says can only get truer */
	if (upper > now || !may_expire(partition->lower, now))
		return false;
	reach = find_reach(upper);
	if (!is_expired(upper, reach, needed_from(), now) || !lock_partition(partition))
		return false;

	/*
	 * under the locks, with what was written, and who subscribed, until they
	 * were had
	 */
	CommandCounterIncrement();
	if (partition->is_default && !find_default_upper(&upper))
		return false;
	reach = find_reach(upper);
	if (!is_expired(upper, reach, needed_from(), now) || has_unpositioned(partition->relid))
		return false;

	drop_partition(partition);
	if (reach.last_position > 0)
		drop_segments(reach.last_position);
	return true;
}

static int
drop_expired(ObxNeededFrom needed_from, TimestampTz now)
{
	List	   *partitions = NIL;
	ListCell   *lc;
	int			dropped = 0;

	/* dropping changes the list that is walked */
	foreach(lc, obx_partition_list())
	{
		ObxPartition *copy = palloc(sizeof(ObxPartition));

		*copy = *(ObxPartition *) lfirst(lc);
		partitions = lappend(partitions, copy);
	}

	foreach(lc, partitions)
	{
		const ObxPartition *partition = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (try_partition(partition, needed_from, now))
			dropped++;
		else if (!partition->is_default && partition->upper <= now)
			break;				/* newer ones are younger still */
	}
	return dropped;
}

int
obx_retention_apply(ObxNeededFrom needed_from)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	Oid			owner = log->rd_rel->relowner;
	ObxIdentity former;
	int			dropped;

	table_close(log, AccessShareLock);
	if (obx_retention < 0 && obx_max_retention < 0)
		return 0;

	obx_identity_assume(&former, owner);
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_connect();
	dropped = drop_expired(needed_from, GetCurrentTimestamp());
	SPI_finish();
	PopActiveSnapshot();
	obx_identity_restore(&former);
	return dropped;
}
