/*
 * Dropping what nobody needs any more: whole partitions, oldest first, and
 * the segments over them.
 *
 * Age is that of the segments, because a transaction may commit long after its
 * events' time.  What is old enough and needed by nobody ends at a segment, the
 * cut; a partition may go if none of its events lies beyond (reach.h).
 *
 * An ACCESS EXCLUSIVE lock on a partition proves that no open or prepared
 * transaction has written to it, since a writer keeps its lock to the end.  No
 * lock is waited for: a reader or a pg_dump in the way means "next time", for
 * a lock that waits in the queue would stop every producer behind it.  And
 * nothing that grows happens while producers may wait for us: which partition
 * may go, and how far it reaches, is found out before; the segments before its
 * last ones are deleted before, in portions, under a lock that subscribers
 * need and producers do not; then the strong locks are taken, a few places of
 * the partition's index looked at again, it is dropped, and the transaction
 * ends.
 *
 * A partition that cannot be dropped, since something else depends on it, is
 * emptied, and is in no other one's way.
 *
 * Must not know subscribers: it is told from where on events are needed.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/command.h"
#include "base/compat.h"
#include "base/guard.h"
#include "base/identity.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "log/age.h"
#include "log/dependent.h"
#include "log/holders.h"
#include "log/immutable.h"
#include "log/partition.h"
#include "log/reach.h"
#include "log/retention.h"
#include "log/segment.h"

/* What one step does at most. */
#define OBX_STEP_SEGMENTS	1000
#define OBX_STEP_PARTITIONS	50

/* A partition that begins so many intervals ahead was made by a wrong clock. */
#define OBX_FAR_AHEAD		4

/* What holds for all partitions of a step. */
typedef struct Limits
{
	TimestampTz now;
	TimestampTz old;			/* what is from before is past its time */
	ObxSegment *cut;			/* the last one that may go; NULL: none */
} Limits;

/* A partition that may go. */
typedef struct Candidate
{
	ObxPartition partition;
	const char *dependent;		/* what keeps it from being dropped, or NULL */
	ObxSegment *first;			/* its events end in these; NULL: it has none */
	ObxSegment *last;
} Candidate;

/* ---- what may go ---- */

/* At that age, the first position that is younger. */
static int64
find_younger(int seconds, TimestampTz now)
{
	return seconds < 0 ? 0 : obx_age_position_after(now - seconds * USECS_PER_SEC, NULL);
}

/* Once everything has gone, a segment without events stands for it. */
static ObxSegment *
find_cut(int64 before)
{
	ObxSegment *last = obx_segment_find_last(NULL);

	if (last != NULL && last->events == 0)
		return last;
	return obx_reach_find_cut(before);
}

static void
find_limits(Limits *limits, ObxRetentionFloor needed_from)
{
	int			shortest = obx_retention < 0 ? obx_max_retention :
	obx_max_retention < 0 ? obx_retention : Min(obx_retention, obx_max_retention);
	int64		before;

	limits->now = GetCurrentTimestamp();
	limits->old = limits->now - shortest * USECS_PER_SEC;
	before = Min(find_younger(obx_retention, limits->now), needed_from());
	before = Max(before, find_younger(obx_max_retention, limits->now));
	limits->cut = find_cut(before);
}

/* Do its bounds allow it to go, if its events do? */
static bool
is_in_question(const ObxPartition *partition, const Limits *limits)
{
	if (partition->is_default)
		return true;
	if (partition->upper <= limits->now)
		return partition->lower <= limits->old;
	return partition->lower > limits->now +
		OBX_FAR_AHEAD * Max(obx_partition_interval * USECS_PER_SEC, USECS_PER_MINUTE);
}

/* May the partition go?  Then also how far it reaches. */
static bool
is_candidate(const ObxPartition *partition, const Limits *limits, Candidate *candidate)
{
	memset(candidate, 0, sizeof(Candidate));
	if (!is_in_question(partition, limits))
		return false;
	candidate->partition = *partition;
	candidate->dependent = partition->is_default ? NULL :
		obx_dependent_describe(partition->relid);
	if (obx_reach_is_empty(partition->relid))
		return !partition->is_default && partition->upper <= limits->old &&
			candidate->dependent == NULL;
	if (limits->cut == NULL || obx_reach_is_beyond(partition->relid, limits->cut->snapshot))
		return false;
	if (limits->cut->events > 0)
		candidate->first = obx_reach_find(partition->relid, limits->cut, &candidate->last);
	else
		candidate->first = candidate->last = limits->cut;
	return true;
}

/* ---- dropping ---- */

/*
 * Forgets the last segments that a partition reaches.  The newest segment says
 * where the log's end is: if it goes, one without events takes its place.
 */
static void
forget_reached(const Candidate *candidate)
{
	int64		end;
	ObxSegment *newest;

	if (candidate->first == NULL || candidate->first->events == 0)
		return;
	end = obx_segment_last_position(candidate->last) + 1;
	newest = obx_segment_find_last(NULL);
	if (newest->first_position == candidate->last->first_position)
	{
		ObxSegment	empty = {
			.first_position = end,
			.time = newest->time,
			.snapshot = newest->snapshot
		};

		if (!obx_segment_lock(false))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("positions are being given")));
		newest = obx_segment_find_last(NULL);
		if (newest->first_position == candidate->last->first_position)
			obx_segment_insert(&empty, newest);
	}
	(void) obx_segment_delete(candidate->first->first_position, end, PG_INT64_MAX);
}

static void
require_lock(Oid relid)
{
	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("relation %u is in use", relid)));
}

/* Locks all that is needed to empty the partition, or to drop it. */
static void
lock_partition(const Candidate *candidate)
{
	if (!candidate->partition.is_default && candidate->dependent == NULL)
	{
		require_lock(obx_object_require(OBX_EVENT));
		require_lock(obx_object_require(OBX_EVENT_DEFAULT));
	}
	require_lock(candidate->partition.relid);
}

/*
 * obx_guard_call's function.  Locks come late; what is looked at again under
 * them is what may have been written, and committed, until they were had.
 */
static void
drop_partition(void *arg)
{
	const Candidate *candidate = arg;
	Oid			relid = candidate->partition.relid;
	bool		keep = candidate->partition.is_default || candidate->dependent != NULL;
	const char *name = get_rel_name(relid);

	forget_reached(candidate);
	/* the commit waits for the disk, under the locks: let little be left */
	XLogFlush(XactLastRecEnd);
	lock_partition(candidate);
	if (obx_reach_is_beyond(relid, candidate->last != NULL ? candidate->last->snapshot : NULL))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("partition \"%s\" has got events", name)));

	obx_immutable_suspend(true);
	obx_command_run(psprintf("%s TABLE outbox.%s", keep ? "TRUNCATE" : "DROP",
							 quote_identifier(name)));
	obx_immutable_suspend(false);
}

/* Once for each partition, by this process. */
static bool
is_news(Oid relid)
{
	static List *reported = NIL;
	MemoryContext old;

	if (list_member_oid(reported, relid))
		return false;
	old = MemoryContextSwitchTo(TopMemoryContext);
	reported = lappend_oid(reported, relid);
	MemoryContextSwitchTo(old);
	return true;
}

static void
report_failure(const char *name, const ErrorData *error)
{
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not drop partition \"%s\" of the event log: %s", name, error->message),
			 error->detail != NULL ? errdetail("%s", error->detail) : 0,
			 errhint("The other partitions are not affected.")));
}

/* ---- what cannot be had ---- */

static ObxHolders holders;

/* Whether the tables were in use in this round. */
static bool is_refused = false;

/* What may be held: the log, or the partitions alone. */
static List *
list_held(void)
{
	List	   *relids = list_make1_oid(obx_object_require(OBX_EVENT));
	ListCell   *lc;

	foreach(lc, obx_partition_list())
		relids = lappend_oid(relids, ((ObxPartition *) lfirst(lc))->relid);
	return relids;
}

/* At the end of a round.  Nothing waits, so nobody else would tell. */
static void
report_holders(void)
{
	const char *who;

	if (!is_refused)
		obx_holders_forget(&holders);
	else if ((who = obx_holders_refused(&holders, list_held())) != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("no partition of the event log can be dropped while it is in use"),
				 errdetail("Locks are held by: %s.", who),
				 errhint("The log grows until their transactions end.")));
	is_refused = false;
}

/* ---- dropping one ---- */

/* Drops a partition that may go; false if it is in use, or cannot be dropped. */
static bool
try_partition(const Candidate *candidate)
{
	Oid			relid = candidate->partition.relid;
	const char *name = get_rel_name(relid);
	ErrorData  *error;

	if (name == NULL)
		return false;
	error = obx_guard_call(drop_partition, unconstify(Candidate *, candidate), CurrentMemoryContext);
	obx_immutable_suspend(false);
	if (error == NULL)
	{
		if (candidate->dependent != NULL && is_news(relid))
			ereport(WARNING,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("partition \"%s\" of the event log was emptied, and could not be dropped",
							name),
					 errdetail("%s depends on it.", candidate->dependent),
					 errhint("Drop that, and the partition goes, too.")));
		return true;
	}
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		is_refused = true;
	else if (is_news(relid))
		report_failure(name, error);
	return false;
}

/* ---- all at once ---- */

/*
 * Only one at a time, and while nobody is about to need what is forgotten; it
 * is no lock that producers would need, nor readers.  Segments are locked as
 * for deleting them before they are read, or a REINDEX in between and we would
 * wait for each other.
 */
static bool
lock_retention(void)
{
	return ConditionalLockRelationOid(obx_object_require(OBX_EVENT), ExclusiveLock) &&
		ConditionalLockRelationOid(obx_object_require(OBX_SEGMENT), RowExclusiveLock);
}

static List *
list_partitions(void)
{
	List	   *partitions = NIL;
	ListCell   *lc;

	/* dropping changes what is walked */
	foreach(lc, obx_partition_list())
	{
		ObxPartition *copy = palloc(sizeof(ObxPartition));

		*copy = *(ObxPartition *) lfirst(lc);
		partitions = lappend(partitions, copy);
	}
	return partitions;
}

/* Locks that producers wait for come last. */
static int
drop_all(ObxRetentionFloor needed_from)
{
	Limits		limits;
	List	   *candidates = NIL;
	int64		forgotten = 0;
	int			dropped = 0;
	ListCell   *lc;

	find_limits(&limits, needed_from);
	foreach(lc, list_partitions())
	{
		Candidate  *candidate = palloc(sizeof(Candidate));

		CHECK_FOR_INTERRUPTS();
		if (!is_candidate(lfirst(lc), &limits, candidate))
			continue;
		candidates = lappend(candidates, candidate);
		if (candidate->first != NULL && candidate->first->events > 0 &&
			candidate->first->first_position > forgotten)
			forgotten = obx_segment_delete(forgotten, candidate->first->first_position,
										   PG_INT64_MAX);
	}
	foreach(lc, candidates)
		if (try_partition(lfirst(lc)))
		dropped++;
	return dropped;
}

static Oid
find_owner(void)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	Oid			owner = log->rd_rel->relowner;

	table_close(log, AccessShareLock);
	return owner;
}

int
obx_retention_apply(ObxRetentionFloor needed_from)
{
	ObxIdentity former;
	int			dropped;

	if ((obx_retention < 0 && obx_max_retention < 0) || !lock_retention())
		return 0;

	obx_identity_assume(&former, find_owner());
	PushActiveSnapshot(GetLatestSnapshot());
	dropped = drop_all(needed_from);
	PopActiveSnapshot();
	obx_identity_restore(&former);
	return dropped;
}

/* ---- step by step ---- */

static void
pass(ObxRetentionRound *round, const ObxPartition *partition)
{
	round->begun = true;
	round->passed = partition->lower;
}

/*
 * Finds the next partition that may go.  *over: there is none; or else there
 * may be one among those that this step does not come to.  The default one is
 * the last.
 */
static bool
find_next(ObxRetentionRound *round, const Limits *limits, Candidate *candidate, bool *over)
{
	int			looked_at = 0;
	ListCell   *lc;

	*over = false;
	foreach(lc, list_partitions())
	{
		const ObxPartition *partition = lfirst(lc);

		if (!partition->is_default && round->begun && partition->lower <= round->passed)
			continue;
		if (is_candidate(partition, limits, candidate))
			return true;
		if (partition->is_default)
			break;
		pass(round, partition);
		if (is_in_question(partition, limits) && ++looked_at == OBX_STEP_PARTITIONS)
			return false;
	}
	*over = true;
	return false;
}

/* Returns whether there may be more to do. */
static bool
take_step(ObxRetentionRound *round, ObxRetentionFloor needed_from)
{
	Limits		limits;
	Candidate	candidate;
	bool		over;

	find_limits(&limits, needed_from);
	if (!find_next(round, &limits, &candidate, &over))
		return !over;

	if (candidate.first != NULL && candidate.first->events > 0 &&
		round->forgotten < candidate.first->first_position)
	{
		round->forgotten = obx_segment_delete(round->forgotten, candidate.first->first_position,
											  OBX_STEP_SEGMENTS);
		return true;
	}
	(void) try_partition(&candidate);
	pass(round, &candidate.partition);
	return !candidate.partition.is_default;
}

bool
obx_retention_step(ObxRetentionRound *round, ObxRetentionFloor needed_from)
{
	ObxIdentity former;
	bool		more = false;

	if (obx_retention < 0 && obx_max_retention < 0)
		is_refused = false;
	else if (!lock_retention())
		is_refused = true;
	else
	{
		/* producers are not to wait for a standby */
		if (synchronous_commit > SYNCHRONOUS_COMMIT_LOCAL_FLUSH)
			(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION,
									 GUC_ACTION_LOCAL, true, 0, false);
		obx_identity_assume(&former, find_owner());
		PushActiveSnapshot(GetLatestSnapshot());
		more = take_step(round, needed_from);
		PopActiveSnapshot();
		obx_identity_restore(&former);
	}
	if (!more)
	{
		report_holders();
		memset(round, 0, sizeof(ObxRetentionRound));
	}
	return more;
}
