/*
 * The log's generation.
 *
 * Transaction ids start over in another cluster, so those in a restored log
 * lie in its future, or will be met again.  Hence the log counts in ids of its
 * own: those of the cluster plus an offset, which is 0 until the log moves and
 * then keeps new ids above all old ones.  That alone closes what a restored
 * log had not given positions yet: to the next snapshot, all old ids have ended.
 * A generation records where the log was when it was last written to; whoever
 * first writes to it elsewhere begins the next one.
 *
 * Rows are only added, under the segments' lock, which whoever writes first
 * after a move holds for that moment only.  One is an exception, of number 0: a
 * mark that what was loaded does not fit together yet.  It is made at once and
 * for everyone, and deleted in the transaction that makes it fit; so if that
 * one aborts, the next one does it.  Must not know subscribers.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "log/counter.h"
#include "log/event.h"
#include "log/generation.h"
#include "log/highest.h"
#include "log/partition.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/xid_snapshot.h"

/* Columns of outbox.generation. */
enum
{
	GENERATION,
	SYSTEM_IDENTIFIER,
	TIMELINE,
	DATABASE,
	XID_OFFSET,
	FIRST_ID,
	TIME,
	FIRST_POSITION,
	COLUMNS
};

/* The row that marks a log which was loaded and does not fit together yet. */
#define OBX_MARK_NUMBER 0

/* Offsets are multiples of this, for the eye. */
#define OBX_OFFSET_UNIT UINT64CONST(1000000000)

typedef enum Move
{
	MOVE_NONE,					/* as it was left */
	MOVE_TIMELINE,				/* promoted or recovered to a point in time */
	MOVE_COPY,					/* a copy of a database of this cluster */
	MOVE_CLUSTER				/* restored into another cluster, or upgraded */
} Move;

typedef struct Generation
{
	int32		number;			/* 0: nothing is recorded yet */
	uint64		system_identifier;
	int32		timeline;
	Oid			database;
	uint64		xid_offset;
	int64		first_id;		/* ids from here on were drawn in it */
} Generation;

void		(*obx_generation_at_copy) (void) = NULL;
uint64		(*obx_generation_noted_xid) (void) = NULL;

static bool leaves_loaded = false;

/* Those that have to do with what is loaded: of log, capture and subscription. */
#define OBX_LOADERS 4

static struct
{
	bool		(*needs_settling) (void);
	int64		(*settle) (void);
}			loaders[OBX_LOADERS];
static int	nloaders = 0;

/* the offset as this process knows it, for one log */
static struct
{
	Oid			log;			/* OID of outbox.event; InvalidOid: not known */
	uint64		offset;
	LocalTransactionId until;	/* good for this transaction only, since no
								 * generation is recorded yet: a restore may
								 * be under way.  Else invalid. */
	uint64		since;			/* ids of the log from here on are of this
								 * cluster's transactions */
}			known;

static Generation
make_generation(HeapTuple tuple, TupleDesc tupdesc)
{
	Generation	generation;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	generation.number = DatumGetInt32(values[GENERATION]);
	generation.system_identifier = (uint64) DatumGetInt64(values[SYSTEM_IDENTIFIER]);
	generation.timeline = DatumGetInt32(values[TIMELINE]);
	generation.database = DatumGetObjectId(values[DATABASE]);
	generation.xid_offset = (uint64) DatumGetInt64(values[XID_OFFSET]);
	generation.first_id = DatumGetInt64(values[FIRST_ID]);
	return generation;
}

/* The newest one recorded; number 0 if none is. */
static Generation
find_generation(void)
{
	Generation	generation = {0};
	ObxScan		scan;
	HeapTuple	tuple;

	obx_scan_begin(&scan, obx_object_require(OBX_GENERATION), AccessShareLock,
				   obx_object_require(OBX_GENERATION_PKEY), NULL, NULL, 0, BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		generation = make_generation(tuple, RelationGetDescr(scan.table));
	obx_scan_end(&scan);
	return generation;
}

/* The largest transaction id in the log, or noted by those that read it. */
static uint64
find_last_xid(void)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	ObxSegment *last = obx_segment_find_last(snapshot);
	uint64		xid = last != NULL ? last->snapshot->xmax : 0;
	ListCell   *lc;

	if (obx_generation_noted_xid != NULL)
		xid = Max(xid, obx_generation_noted_xid());
	foreach(lc, obx_partition_list())
	{
		ObxPartitionScan scan;

		if (!obx_partition_scan_open(&scan, ((ObxPartition *) lfirst(lc))->relid, snapshot))
			continue;
		obx_partition_scan_set_range(&scan, 0, PG_UINT64_MAX, BackwardScanDirection);
		if (obx_partition_scan_next(&scan))
			xid = Max(xid, obx_event_xid(scan.slot));

		/*
		 * kept locks would be stronger ones' deadlocks: the caller goes on to
		 * write
		 */
		obx_partition_scan_close(&scan, false);
	}
	UnregisterSnapshot(snapshot);
	return xid;
}

/* What became of the log since then. */
static Move
find_move(const Generation *generation)
{
	/* a log that moved before its first position tells by its ids, if at all */
	if (generation->number == 0)
		return find_last_xid() < U64FromFullTransactionId(ReadNextFullTransactionId()) ?
			MOVE_NONE : MOVE_CLUSTER;
	if (generation->system_identifier != GetSystemIdentifier())
		return MOVE_CLUSTER;
	if (generation->database != MyDatabaseId)
		return MOVE_COPY;
	if (generation->timeline != (int32) obx_timeline())
		return MOVE_TIMELINE;
	return MOVE_NONE;
}

/* ---- the next generation ---- */

/* Every transaction of this cluster before this id has ended. */
static uint64
find_oldest_running(void)
{
	ObxXidSnapshot *snapshot;

	PushActiveSnapshot(GetLatestSnapshot());
	snapshot = obx_xid_snapshot_from_datum(OidFunctionCall0(F_PG_CURRENT_SNAPSHOT));
	PopActiveSnapshot();
	return snapshot->xmin;
}

/* One that keeps the ids to come above all that are in the log. */
static uint64
choose_offset(const Generation *previous, Move move)
{
	uint64		last;

	/*
	 * The counter went on.  Another offset would be wrong: transactions that
	 * are prepared have written with this one.
	 */
	if (move != MOVE_CLUSTER)
		return previous->xid_offset;

	/* an upgraded cluster goes on counting, too */
	last = find_last_xid();
	if (find_oldest_running() + previous->xid_offset > last)
		return previous->xid_offset;
	return (last / OBX_OFFSET_UNIT + 1) * OBX_OFFSET_UNIT;
}

/*
 * The row is there for everyone at once, and stays even if the transaction
 * aborts, as what nextval() does stays: where the log is, is no matter of the
 * transaction that happens to write first.  Else all others would have to wait
 * for its end, which may be far away.
 */
static void
insert_lasting(Relation table, Datum *values, bool *nulls)
{
	Relation	index = index_open(obx_object_require(OBX_GENERATION_PKEY), RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(table), values, nulls);
	bool		pushed = obx_active_snapshot_ensure();

	heap_insert(table, tuple, GetCurrentCommandId(true), HEAP_INSERT_FROZEN, NULL);
	(void) obx_index_insert(index, &values[GENERATION], &nulls[GENERATION], &tuple->t_self, table,
							UNIQUE_CHECK_YES, BuildIndexInfo(index));
	obx_active_snapshot_release(pushed);
	index_close(index, RowExclusiveLock);
}

static void
insert_generation(const Generation *generation, bool lasting)
{
	Relation	table = table_open(obx_object_require(OBX_GENERATION), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	values[GENERATION] = Int32GetDatum(generation->number);
	values[SYSTEM_IDENTIFIER] = Int64GetDatum((int64) generation->system_identifier);
	values[TIMELINE] = Int32GetDatum(generation->timeline);
	values[DATABASE] = ObjectIdGetDatum(generation->database);
	values[XID_OFFSET] = Int64GetDatum((int64) generation->xid_offset);
	values[FIRST_ID] = Int64GetDatum(generation->first_id);
	values[TIME] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[FIRST_POSITION] = Int64GetDatum(obx_segment_head(NULL) + 1);
	if (lasting)
		insert_lasting(table, values, nulls);
	else
		obx_table_insert(table, values, nulls);
	table_close(table, NoLock);
}

static Generation
make_next(const Generation *previous, Move move)
{
	Generation	next = {
		.number = previous->number + 1,
		.system_identifier = GetSystemIdentifier(),
		.timeline = (int32) obx_timeline(),
		.database = MyDatabaseId,
		.xid_offset = choose_offset(previous, move),
		.first_id = move == MOVE_NONE ? 1 : obx_counter_step(0)
	};

	return next;
}

/* ---- the mark ---- */

/* Is it there?  Then it is deleted, if that is asked for. */
static bool
find_mark(bool delete)
{
	ObxScan		scan;
	ScanKeyData key;
	HeapTuple	tuple;
	bool		found;

	ScanKeyInit(&key, GENERATION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(OBX_MARK_NUMBER));
	obx_scan_begin(&scan, obx_object_require(OBX_GENERATION),
				   delete ? RowExclusiveLock : AccessShareLock,
				   obx_object_require(OBX_GENERATION_PKEY), NULL, &key, 1, ForwardScanDirection);
	tuple = obx_scan_next(&scan);
	found = (tuple != NULL);
	if (found && delete)
		simple_heap_delete(scan.table, &tuple->t_self);
	obx_scan_end(&scan);
	return found;
}

static void
insert_mark(void)
{
	Generation	mark = {
		.number = OBX_MARK_NUMBER,
		.system_identifier = GetSystemIdentifier(),
		.timeline = (int32) obx_timeline(),
		.database = MyDatabaseId,
		.first_id = PG_INT64_MAX	/* no id was drawn in it */
	};

	insert_generation(&mark, true);
}

/* ---- what was loaded ---- */

void
obx_generation_on_load(bool (*needs_settling) (void), int64 (*settle) (void))
{
	if (nloaders == OBX_LOADERS)
		elog(ERROR, "too many functions are registered for a load of the log");
	loaders[nloaders].needs_settling = needs_settling;
	loaders[nloaders++].settle = settle;
}

/*
 * Was the log, or what belongs to it, loaded, and not made to fit since?  Once
 * an id was drawn, which stays so if the transaction aborts, the mark tells.
 */
static bool
is_loaded(const Generation *generation)
{
	if (obx_counter_state() == OBX_COUNTER_DRAWN)
		return find_mark(false);
	if (generation->number > 0 || obx_segment_find_last(NULL) != NULL || obx_log_has_events())
		return true;
	for (int i = 0; i < nloaders; i++)
		if (loaders[i].needs_settling())
			return true;
	return false;
}

bool
obx_generation_accepts_load(void)
{
	Generation	generation;

	switch (obx_counter_state())
	{
		case OBX_COUNTER_NEW:
			return true;
		case OBX_COUNTER_SET:
			/* by the restore under way, or by one into a log in use */
			generation = find_generation();
			if (generation.number == 0 ? obx_segment_find_last(NULL) == NULL :
				find_move(&generation) != MOVE_NONE)
				return true;
			break;
		case OBX_COUNTER_DRAWN:
			break;
	}
	return obx_log_is_empty() && obx_counter_rest();
}

bool
obx_generation_is_settled(void)
{
	return obx_counter_state() == OBX_COUNTER_DRAWN && !find_mark(false);
}

bool
obx_generation_is_loaded(void)
{
	Generation	generation = find_generation();

	return is_loaded(&generation) ||
		(obx_counter_state() != OBX_COUNTER_DRAWN && find_move(&generation) != MOVE_NONE);
}

/*
 * What was loaded came table by table, and perhaps not all of it: makes it fit
 * together.  From the first id that is drawn on, nothing more can be loaded.
 */
static void
fit_load(void)
{
	int64		highest = obx_log_highest_id();

	/* before the first id is drawn, which nothing undoes */
	if (!find_mark(false))
		insert_mark();
	(void) find_mark(true);
	for (int i = 0; i < nloaders; i++)
		highest = Max(highest, loaders[i].settle());
	(void) obx_counter_step(highest);
	CommandCounterIncrement();
}

void
obx_generation_leave_loaded(bool leave)
{
	leaves_loaded = leave;
}

/* The process leaves it to others to make a loaded log fit, see above. */
static void
refuse_loaded(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the event log is being restored")));
}

void
obx_generation_refuse_load(void)
{
	if (known.until != InvalidLocalTransactionId &&
		obx_counter_state() != OBX_COUNTER_DRAWN)
		refuse_loaded();
}

/*
 * Begins the next generation if the log has moved, and settles one that was
 * loaded; returns the current generation.
 */
static Generation
require_generation(void)
{
	Generation	generation = find_generation();
	bool		loaded;
	Move		move;

	/* who only reads leaves it to the next one who writes */
	if (RecoveryInProgress() || XactReadOnly ||
		(find_move(&generation) == MOVE_NONE && !is_loaded(&generation)))
		return generation;

	obx_segment_lock(true);
	generation = find_generation(); /* someone else may have been first */
	move = find_move(&generation);
	loaded = is_loaded(&generation);
	if (leaves_loaded &&
		(loaded || (move != MOVE_NONE && obx_counter_state() != OBX_COUNTER_DRAWN)))
		refuse_loaded();
	if (loaded)
		fit_load();
	if (move == MOVE_NONE)
	{
		if (!loaded)
			obx_segment_unlock();
		return generation;
	}

	/* that the subscriptions of a copy are paused is undone by an abort */
	generation = make_next(&generation, move);
	insert_generation(&generation, move != MOVE_COPY);
	if (move == MOVE_COPY && obx_generation_at_copy != NULL)
		obx_generation_at_copy();
	/* likewise what was made to fit is not there for others before the end */
	if (move != MOVE_COPY && !loaded)
		obx_segment_unlock();
	ereport(LOG,
			(errmsg("the event log goes on as generation %d", generation.number),
			 errdetail("%s", move == MOVE_TIMELINE ? "The server is on another timeline." :
					   move == MOVE_COPY ? "The database is a copy; its subscriptions are paused." :
					   "The database was restored into another cluster, or upgraded.")));
	return generation;
}

void
obx_generation_ensure(void)
{
	Generation	generation = find_generation();

	if (generation.number > 0)
		return;
	generation = make_next(&generation, MOVE_NONE);
	insert_generation(&generation, false);
}

int32
obx_generation_number(void)
{
	return Max(find_generation().number, 1);
}

/* ---- ids of events ---- */

struct ObxGenerations
{
	int			count;
	Generation *generations;	/* ascending */
};

ObxGenerations *
obx_generations_load(Snapshot snapshot)
{
	ObxGenerations *list = palloc(sizeof(ObxGenerations));
	int			size = 4;
	ObxScan		scan;
	HeapTuple	tuple;

	list->count = 0;
	list->generations = palloc(size * sizeof(Generation));
	obx_scan_begin(&scan, obx_object_require(OBX_GENERATION), AccessShareLock,
				   obx_object_require(OBX_GENERATION_PKEY), snapshot, NULL, 0,
				   ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		if (list->count == size)
		{
			size *= 2;
			list->generations = repalloc(list->generations, size * sizeof(Generation));
		}
		list->generations[list->count++] = make_generation(tuple, RelationGetDescr(scan.table));
	}
	obx_scan_end(&scan);
	return list;
}

int32
obx_generation_of_id(const ObxGenerations *list, int64 id)
{
	for (int i = list->count - 1; i >= 0; i--)
		if (list->generations[i].first_id <= id)
			return list->generations[i].number;
	return 1;
}

/* ---- transaction ids ---- */

/* A generation begun in a transaction that aborts may be none. */
static void
forget_offset(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		known.log = InvalidOid;
}

static void
forget_offset_in_subtransaction(SubXactEvent event, SubTransactionId subxact,
								SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		known.log = InvalidOid;
}

void
obx_generation_init(void)
{
	obx_counter_init();
	obx_counter_highest = obx_log_highest_id;
	RegisterXactCallback(forget_offset, NULL);
	RegisterSubXactCallback(forget_offset_in_subtransaction, NULL);
}

uint64
obx_generation_follow(void)
{
	Oid			log = obx_object_require(OBX_EVENT);

	if (unlikely(known.log != log ||
				 (known.until != InvalidLocalTransactionId && known.until != obx_my_lxid())))
	{
		Generation	generation = require_generation();

		known.offset = generation.xid_offset;
		known.since = generation.number == 1 ? FirstNormalTransactionId :
			U64FromFullTransactionId(ReadNextFullTransactionId()) + known.offset;
		known.until = generation.number > 0 && !XactReadOnly ?
			InvalidLocalTransactionId : obx_my_lxid();
		known.log = log;
	}
	return known.offset;
}

uint64
obx_generation_own_xid(void)
{
	uint64		offset = obx_generation_follow();

	return U64FromFullTransactionId(GetTopFullTransactionId()) + offset;
}

uint64
obx_generation_own_xid_if_any(void)
{
	FullTransactionId xid = GetTopFullTransactionIdIfAny();

	return FullTransactionIdIsValid(xid) ? U64FromFullTransactionId(xid) + obx_generation_follow() : 0;
}

uint64
obx_generation_next_xid(void)
{
	return obx_generation_follow() + U64FromFullTransactionId(ReadNextFullTransactionId());
}

ObxXidSnapshot *
obx_generation_snapshot(void)
{
	ObxXidSnapshot *snapshot = obx_xid_snapshot_from_datum(OidFunctionCall0(F_PG_CURRENT_SNAPSHOT));
	uint64		offset = obx_generation_follow();

	snapshot->xmin += offset;
	snapshot->xmax += offset;
	for (int i = 0; i < snapshot->nrunning; i++)
		snapshot->running[i] += offset;
	return snapshot;
}

/*
 * Nothing is known of transactions before the database's oldest.  In a log
 * that has moved, or was loaded and has no positions yet, an id from before this process knew the offset may be one of
 * another cluster, whose events were loaded; the one of that number may have
 * aborted here.
 */
bool
obx_generation_has_aborted(uint64 xid)
{
	uint64		offset = obx_generation_follow();
	FullTransactionId next = ReadNextFullTransactionId();
	HeapTuple	database;
	TransactionId oldest;
	TransactionId own;

	if (xid < known.since || xid - offset >= U64FromFullTransactionId(next) ||
		U64FromFullTransactionId(next) - (xid - offset) > PG_INT32_MAX)
		return false;
	own = (TransactionId) (xid - offset);
	database = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	if (!HeapTupleIsValid(database))
		return false;
	oldest = ((Form_pg_database) GETSTRUCT(database))->datfrozenxid;
	ReleaseSysCache(database);
	return !TransactionIdPrecedes(own, oldest) && !TransactionIdDidCommit(own);
}
