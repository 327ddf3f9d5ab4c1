/*
 * Making partitions of the log ahead of need.
 *
 * A partition is made by CREATE TABLE and ATTACH, because that takes SHARE
 * UPDATE EXCLUSIVE on the parent where PARTITION OF takes ACCESS EXCLUSIVE.
 * ATTACH must lock the default partition, which might hold events that belong
 * into the new one: no partition can be made under those.  That none is there
 * is looked up in the default partition's index on time, under the lock, and
 * told to PostgreSQL as a constraint, so that it does not scan the table for
 * it.  All else happens before the lock is taken, and the commit comes right
 * after.
 *
 * Partitions are made well before they are needed, so the lock is taken with
 * NOWAIT: an attempt that fails is repeated later.  But where there is none
 * for now, every producer uses the default partition, and there might never be
 * a moment without one: then the lock is waited for, for so short a time that
 * producers behind it hardly notice, again and again.  Only the sequencer,
 * which does so at intervals, may wait: run() may be called without a pause.
 *
 * The next partition fills the first gap at or after now, up to the next one
 * there is.  One that was made by a clock that was wrong is in nobody's way.
 *
 * Must not know who calls, nor what events mean.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "commands/tablespace.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/command.h"
#include "base/compat.h"
#include "base/guard.h"
#include "base/identity.h"
#include "base/settings.h"
#include "base/table.h"
#include "catalog/names.h"
#include "log/ahead.h"
#include "log/bound.h"
#include "log/closed.h"
#include "log/event.h"
#include "log/holders.h"
#include "log/partition.h"

/* how far ahead, beside two intervals */
#define OBX_PARTITION_AHEAD	(10 * USECS_PER_SEC)

/* a partition under events of the default one begins so much later at least */
#define OBX_PARTITION_MARGIN	(200 * INT64CONST(1000))

/* so many stretches of time with events of the default partition are passed */
#define OBX_PARTITION_TRIES	20

/*
 * How many milliseconds producers may have to wait, if there is no partition
 * for now.  After so many attempts some transaction stays open for long, and
 * attempts can as well be fewer and longer.
 */
#define OBX_PATIENCE		10
#define OBX_LONGEST_PATIENCE	200
#define OBX_PATIENT_ATTEMPTS	30

/* pages of the default partition: 8 MB */
#define OBX_SMALL_DEFAULT	1024

/* What a partition covers, and how it is to be made. */
typedef struct Place
{
	TimestampTz lower;
	TimestampTz upper;
	int			patience;		/* milliseconds; 0: do not wait */
} Place;

/* ---- where ---- */

/*
 * The first gap between partitions at or after a time; false when that lies
 * far enough ahead.  The partition is not to begin before "earliest".
 */
static bool
find_gap(TimestampTz time, TimestampTz earliest, TimestampTz ahead, int64 interval, Place *place)
{
	int			count;
	const ObxPartition *partitions = obx_partition_array(&count);
	TimestampTz former = DT_NOBEGIN;
	int			next = 0;

	for (; !partitions[next].is_default && partitions[next].lower <= time; next++)
	{
		former = partitions[next].upper;
		time = Max(time, former);
	}
	if (time >= ahead)
		return false;

	place->lower = Max(former, earliest);
	place->upper = obx_bound_start(place->lower, interval) + interval;
	if (!partitions[next].is_default)
		place->upper = Min(place->upper, partitions[next].lower);
	return true;
}

/*
 * The last time among the default partition's events of the place's times.  It
 * uses the index, whatever plan the settings of the caller of run() would
 * give.
 */
static bool
find_default_time(const Place *place, TimestampTz *last)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;
	bool		isnull;

	ScanKeyInit(&keys[0], OBX_EVENT_TIME + 1, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(place->lower));
	ScanKeyInit(&keys[1], OBX_EVENT_TIME + 1, BTLessStrategyNumber, F_TIMESTAMPTZ_LT,
				TimestampTzGetDatum(place->upper));
	obx_scan_begin(&scan, obx_object_require(OBX_EVENT_DEFAULT), AccessShareLock,
				   obx_object_require(OBX_EVENT_DEFAULT_TIME_IDX), NULL, keys, 2,
				   BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		*last = DatumGetTimestampTz(heap_getattr(tuple, OBX_EVENT_TIME + 1,
												 RelationGetDescr(scan.table), &isnull));
	obx_scan_end(&scan);
	return tuple != NULL;
}

/*
 * Decides where the next partition is to be; false when there are enough.  It
 * cannot be made under events of the default one: then it begins with the next
 * minute after them.
 */
static bool
choose_place(TimestampTz now, int64 interval, Place *place)
{
	TimestampTz ahead = now + Max(2 * interval, OBX_PARTITION_AHEAD);
	int64		step = Min(interval, USECS_PER_MINUTE);
	TimestampTz time = now;
	TimestampTz earliest = obx_bound_start(now, interval);
	TimestampTz last;

	for (int i = 0; i < OBX_PARTITION_TRIES; i++)
	{
		if (!find_gap(time, earliest, ahead, interval, place))
			return false;
		if (!find_default_time(place, &last))
			return true;
		time = obx_bound_start(Max(last, now) + OBX_PARTITION_MARGIN, step) + step;
		earliest = time;
	}
	return false;
}

/* ---- making ---- */

/* A table of that name may have been left, or been made by somebody. */
static char *
choose_name(TimestampTz lower)
{
	char	   *name = obx_bound_name(lower);
	char	   *unique = name;

	for (int i = 1; OidIsValid(get_relname_relid(unique, obx_schema_require())); i++)
		unique = psprintf("%s_%d", name, i);
	return unique;
}

static void
create_table(const char *name)
{
	obx_command_run(psprintf("CREATE TABLE outbox.%s"
							 " (LIKE outbox.event INCLUDING DEFAULTS INCLUDING STORAGE)",
							 name));
	obx_command_run(psprintf("CREATE INDEX ON outbox.%s (xid, id) WITH (deduplicate_items = off)",
							 name));
	/* statement-level triggers are not cloned from the parent */
	obx_command_run(psprintf("CREATE TRIGGER refuse_change BEFORE INSERT OR UPDATE OR DELETE"
							 " OR TRUNCATE ON outbox.%s"
							 " FOR EACH STATEMENT EXECUTE FUNCTION outbox.refuse_change()",
							 name));
	obx_command_run(psprintf("ALTER TABLE outbox.%s ENABLE ALWAYS TRIGGER refuse_change", name));
	obx_closed_ensure(get_relname_relid(name, obx_schema_require()));
}

/* Throws ERRCODE_LOCK_NOT_AVAILABLE if the default partition is in use. */
static void
lock_default(int patience)
{
	Oid			relid = obx_object_require(OBX_EVENT_DEFAULT);
	int			nest_level;

	if (ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return;
	if (patience == 0)
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("outbox.event_default is in use")));
	nest_level = NewGUCNestLevel();
	(void) set_config_option("lock_timeout", psprintf("%d", patience), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	LockRelationOid(relid, AccessExclusiveLock);
	AtEOXact_GUC(true, nest_level);
}

/*
 * The default partition is locked, and has no event of the place's times: which
 * the constraint says, without a scan.
 */
static void
attach_table(const char *name, const Place *place)
{
	const char *lower = obx_bound_format(place->lower);
	const char *upper = obx_bound_format(place->upper);
	const char *command = psprintf("ALTER TABLE outbox.event_default ADD CONSTRAINT event_default_gap"
								   " CHECK (\"time\" OPERATOR(pg_catalog.<) '%s'::pg_catalog.timestamptz"
								   " OR \"time\" OPERATOR(pg_catalog.>=) '%s'::pg_catalog.timestamptz)"
								   " NOT VALID", lower, upper);
	Node	   *parsed = obx_command_parse(command);
	AlterTableCmd *add = linitial_node(AlterTableCmd, castNode(AlterTableStmt, parsed)->cmds);

	castNode(Constraint, add->def)->initially_valid = true;
	obx_command_run_parsed(parsed, command);
	obx_command_run(psprintf("ALTER TABLE outbox.event ATTACH PARTITION outbox.%s"
							 " FOR VALUES FROM ('%s') TO ('%s')", name, lower, upper));
	obx_command_run("ALTER TABLE outbox.event_default DROP CONSTRAINT event_default_gap");
}

/* obx_guard_call's function: makes a partition there. */
static void
make_partition(void *arg)
{
	const Place *place = arg;
	char	   *name = choose_name(place->lower);
	TimestampTz last;

	create_table(name);
	/* the commit waits for the disk, under the lock: let little be left */
	XLogFlush(XactLastRecEnd);
	lock_default(place->patience);
	/* who wrote to it until now has ended */
	if (find_default_time(place, &last))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("outbox.event_default has got events")));
	attach_table(name, place);
}

/*
 * Undone with the nest level.  The settings of the caller of run() must not
 * decide how and where the log is stored: events are written as heap tuples,
 * and the parent says in which tablespace.
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

/* A default partition that is still small does no harm: nobody waits for it. */
static bool
is_default_small(void)
{
	Relation	partition = table_open(obx_object_require(OBX_EVENT_DEFAULT), AccessShareLock);
	BlockNumber blocks = RelationGetNumberOfBlocks(partition);

	table_close(partition, AccessShareLock);
	return blocks < OBX_SMALL_DEFAULT;
}

static int
choose_patience(int refusals)
{
	if (is_default_small())
		return 0;
	return refusals < OBX_PATIENT_ATTEMPTS ? OBX_PATIENCE :
		Min(OBX_PATIENCE << Min(refusals - OBX_PATIENT_ATTEMPTS, 10), OBX_LONGEST_PATIENCE);
}

/* A look, so that not each attempt that must fail makes a table first. */
static bool
is_default_in_use(void)
{
	Oid			relid = obx_object_require(OBX_EVENT_DEFAULT);

	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return true;
	UnlockRelationOid(relid, AccessExclusiveLock);
	return false;
}

/* As the log's owner. */
static ObxAhead
prepare_next(TimestampTz now, int64 interval, bool patient)
{
	static int	refusals = 0;
	Place		place;
	ErrorData  *error;

	if (!choose_place(now, interval, &place))
		return OBX_AHEAD_ENOUGH;
	if (!ConditionalLockRelationOid(obx_object_require(OBX_EVENT), ShareUpdateExclusiveLock))
		return OBX_AHEAD_LATER;
	/* now nobody else makes one; somebody may have, since we looked */
	if (!choose_place(now, interval, &place))
		return OBX_AHEAD_ENOUGH;
	if (!patient && is_default_in_use())
		return OBX_AHEAD_LATER;

	place.patience = patient ? choose_patience(refusals) : 0;
	error = obx_guard_call(make_partition, &place, CurrentMemoryContext);
	if (error == NULL)
	{
		refusals = 0;
		return OBX_AHEAD_MADE;
	}
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
		ReThrowError(error);
	if (patient)
		refusals++;
	return OBX_AHEAD_LATER;
}

/* Have partitions come from elsewhere, as in a restore? */
static bool
have_changed(void)
{
	static uint64 known = 0;
	bool		changed = obx_partition_version() != known;

	known = obx_partition_version();
	return changed;
}

/* While there is no partition for now, events go to the default one. */
static void
report_holders(bool is_refused)
{
	static ObxHolders holders;
	const char *who;

	if (!is_refused)
		obx_holders_forget(&holders);
	else if ((who = obx_holders_refused(&holders,
										list_make1_oid(obx_object_require(OBX_EVENT_DEFAULT)))) != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("no partition of the event log can be made while outbox.event_default is in use"),
				 errdetail("Locks are held by: %s.", who),
				 errhint("All events go to the default partition until their transactions end.")));
}

ObxAhead
obx_ahead_prepare(bool may_wait, bool *urgent)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		interval = obx_partition_interval * USECS_PER_SEC;
	bool		changed = have_changed();
	Place		place;
	ObxIdentity former;
	ObxAhead	result;
	Relation	log;

	*urgent = obx_partition_find(now) == obx_object_require(OBX_EVENT_DEFAULT);
	if (!*urgent && !changed &&
		!find_gap(now, now, now + Max(2 * interval, OBX_PARTITION_AHEAD), interval, &place))
		return OBX_AHEAD_ENOUGH;

	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	obx_identity_assume(&former, log->rd_rel->relowner);
	set_storage(log);
	table_close(log, AccessShareLock);

	PushActiveSnapshot(GetTransactionSnapshot());
	if (changed)
		obx_closed_ensure_types();
	result = prepare_next(now, interval, *urgent && may_wait);
	PopActiveSnapshot();

	obx_identity_restore(&former);
	/* run() need not tell of a default partition that harms nothing yet */
	report_holders(result == OBX_AHEAD_LATER && *urgent &&
				   (obx_is_background_worker() || !is_default_small()));
	return result;
}
