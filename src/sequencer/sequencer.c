/*
 * Giving positions: appending segments to the log.
 *
 * Two snapshots taken one after another are nested cuts through the finished
 * transactions.  What the newer one sees and the older one did not is the
 * next stretch of the log, and in it transactions are ordered by the largest
 * id among their events.  That order is causal: an event that depends on
 * another transaction drew its id after that one had ended, so either an
 * earlier cut has the other transaction, or its ids are all smaller.  The
 * idea of cutting a log by snapshots is PgQ's.
 *
 * What must hold: the lock is taken before the snapshot, so that cuts are
 * nested; the transaction writes nothing but segments, because a snapshot
 * regards the transaction that took it as ended; it never runs on a standby,
 * where snapshots do not list the running ones; and its commit is flushed,
 * because a position that was seen must never name another event.
 *
 * Must not know subscribers.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "catalog/names.h"
#include "log/event.h"
#include "log/generation.h"
#include "log/partition.h"
#include "log/scan.h"
#include "log/segment.h"
#include "log/xid_snapshot.h"
#include "sequencer/sequencer.h"

/* What a difference of snapshots says of one transaction. */
typedef struct Transaction
{
	uint64		xid;			/* hash key */
	int64		events;
	int64		min_id;
	int64		max_id;
	TimestampTz min_time;
	TimestampTz max_time;
} Transaction;

/*
 * The newest snapshot after which this process found nothing to append: the
 * next difference starts there, which keeps an idle sequencer from looking at
 * the same xids again.  Holds while the log's head is the same.
 */
static struct
{
	Oid			segment;		/* OID of outbox.segment */
	int64		head;
	ObxXidSnapshot *snapshot;
}			scanned;

/* ---- the difference ---- */

static void
count_event(HTAB *transactions, const ObxPartitionScan *scan)
{
	bool		isnull;
	int64		id = scan->id;
	uint64		xid = obx_event_xid(scan->slot);
	TimestampTz time = DatumGetTimestampTz(slot_getattr(scan->slot, OBX_EVENT_TIME + 1, &isnull));
	bool		found;
	Transaction *transaction = hash_search(transactions, &xid, HASH_ENTER, &found);

	if (!found)
	{
		transaction->events = 0;
		transaction->min_id = transaction->max_id = id;
		transaction->min_time = transaction->max_time = time;
	}
	transaction->events++;
	transaction->min_id = Min(transaction->min_id, id);
	transaction->max_id = Max(transaction->max_id, id);
	transaction->min_time = Min(transaction->min_time, time);
	transaction->max_time = Max(transaction->max_time, time);
}

/* Counts the visible events with from <= xid <= to. */
static void
count_events(HTAB *transactions, ObxPartitionScan *scan, uint64 from, uint64 to)
{
	obx_partition_scan_set_range(scan, from, to, ForwardScanDirection);
	while (obx_partition_scan_next(scan))
	{
		CHECK_FOR_INTERRUPTS();
		count_event(transactions, scan);
	}
}

/*
 * Finds the transactions whose events the upper snapshot sees and the lower
 * one does not.  Visibility of the rows decides: a transaction that ended may
 * have aborted, or have rolled back to a savepoint.
 */
static HTAB *
find_difference(const ObxXidSnapshot *lower, const ObxXidSnapshot *upper, Snapshot snapshot)
{
	HASHCTL		control = {
		.keysize = sizeof(uint64),
		.entrysize = sizeof(Transaction),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *transactions = hash_create("pg_outbox transactions", 256, &control,
										   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	int			count;
	const ObxPartition *partitions = obx_partition_array(&count);

	for (int i = 0; i < count; i++)
	{
		ObxPartitionScan scan;

		/* retention drops only partitions whose events all have positions */
		if (!obx_partition_scan_open(&scan, partitions[i].relid, snapshot))
			continue;
		count_events(transactions, &scan, lower->xmax, upper->xmax - 1);
		for (int j = 0; j < lower->nrunning; j++)
			if (obx_xid_snapshot_has_ended(upper, lower->running[j]))
				count_events(transactions, &scan, lower->running[j], lower->running[j]);
		obx_partition_scan_close(&scan, false);
	}
	return transactions;
}

static int
compare_transactions(const void *a, const void *b)
{
	int64		left = ((const Transaction *) a)->max_id;
	int64		right = ((const Transaction *) b)->max_id;

	return (left > right) - (left < right);
}

static Transaction *
sort_transactions(HTAB *hash, int *count)
{
	Transaction *transactions;
	Transaction *transaction;
	HASH_SEQ_STATUS status;
	int			i = 0;

	*count = hash_get_num_entries(hash);
	transactions = MemoryContextAllocHuge(CurrentMemoryContext,
										  Max(*count, 1) * sizeof(Transaction));
	hash_seq_init(&status, hash);
	while ((transaction = hash_seq_search(&status)) != NULL)
		transactions[i++] = *transaction;
	qsort(transactions, *count, sizeof(Transaction), compare_transactions);
	return transactions;
}

/* ---- appending ---- */

/* Appends one segment of the given transactions, and returns it. */
static ObxSegment *
append_segment(const Transaction *transactions, int count, const ObxSegment *last,
			   ObxXidSnapshot *upper)
{
	ObxSegment *segment = palloc0(sizeof(ObxSegment));

	segment->first_position = last != NULL ? obx_segment_last_position(last) + 1 : 1;
	segment->time = GetCurrentTimestamp();
	segment->snapshot = upper;
	segment->min_id = transactions[0].min_id;
	segment->max_id = transactions[0].max_id;
	segment->min_time = transactions[0].min_time;
	segment->max_time = transactions[0].max_time;
	segment->ntransactions = count;
	segment->transactions = palloc(count * sizeof(ObxSegmentTransaction));

	for (int i = 0; i < count; i++)
	{
		segment->transactions[i].xid = transactions[i].xid;
		segment->transactions[i].events = transactions[i].events;
		segment->events += transactions[i].events;
		segment->min_id = Min(segment->min_id, transactions[i].min_id);
		segment->max_id = Max(segment->max_id, transactions[i].max_id);
		segment->min_time = Min(segment->min_time, transactions[i].min_time);
		segment->max_time = Max(segment->max_time, transactions[i].max_time);
	}
	obx_segment_insert(segment, last);
	pfree(segment->transactions);
	return segment;
}

static void
remember_scanned(int64 head, const ObxXidSnapshot *upper)
{
	ObxXidSnapshot *copy = obx_xid_snapshot_copy(upper, TopMemoryContext);

	if (scanned.snapshot != NULL)
		pfree(scanned.snapshot);
	scanned.snapshot = copy;
	scanned.segment = obx_object_require(OBX_SEGMENT);
	scanned.head = head;
}

/* Where the next difference starts. */
static const ObxXidSnapshot *
find_lower(const ObxSegment *last, int64 head)
{
	if (scanned.snapshot != NULL && scanned.head == head &&
		scanned.segment == obx_object_require(OBX_SEGMENT))
		return scanned.snapshot;
	return last != NULL ? last->snapshot : obx_xid_snapshot_empty();
}

/*
 * An xid counter that went back would make finished transactions look
 * unfinished for ever: say so instead of waiting.
 */
static void
check_counter(const ObxSegment *last, const ObxXidSnapshot *upper)
{
	if (last != NULL && last->snapshot->xmax > upper->xmax)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log of pg_outbox comes from the future of this server"),
				 errdetail("Its last segment was made at transaction " UINT64_FORMAT
						   ", the server's next one is " UINT64_FORMAT ".",
						   last->snapshot->xmax, upper->xmax),
				 errhint("Was pg_resetwal run?  Restore the database into a new cluster.")));
}

static ObxSequenced
append_difference(void)
{
	Snapshot	snapshot = GetActiveSnapshot();
	ObxSegment *last = obx_segment_find_last(snapshot);
	ObxXidSnapshot *upper = obx_generation_snapshot();
	int64		head = last != NULL ? obx_segment_last_position(last) : 0;
	ObxSequenced result = {.head = head};
	Transaction *transactions;
	int			count;

	check_counter(last, upper);
	transactions = sort_transactions(find_difference(find_lower(last, head), upper, snapshot),
									 &count);
	if (count == 0)
	{
		/* what is loaded later has xids that were looked at */
		if (obx_generation_is_settled())
			remember_scanned(head, upper);
		return result;
	}

	obx_generation_ensure();
	/* the place of a segment without events is taken by the new one */
	if (last != NULL && last->events == 0)
		(void) obx_segment_delete(last->first_position, last->first_position + 1, 1);
	for (int i = 0; i < count; i += OBX_SEGMENT_TRANSACTIONS)
		last = append_segment(&transactions[i], Min(count - i, OBX_SEGMENT_TRANSACTIONS),
							  last, upper);
	result.head = obx_segment_last_position(last);
	result.events = result.head - head;
	result.transactions = count;
	return result;
}

/* Has the partition a visible event with from <= xid <= to, other than "own"'s? */
static bool
has_event(ObxPartitionScan *scan, const ObxXidSnapshot *upto, uint64 from, uint64 to, uint64 own)
{
	obx_partition_scan_set_range(scan, from, to, ForwardScanDirection);
	while (obx_partition_scan_next(scan))
	{
		uint64		xid = obx_event_xid(scan->slot);

		CHECK_FOR_INTERRUPTS();
		if (xid != own && obx_xid_snapshot_has_ended(upto, xid))
			return true;
	}
	return false;
}

bool
obx_sequencer_is_behind(const ObxXidSnapshot *upto, uint64 own)
{
	Snapshot	snapshot;
	ObxSegment *last;
	const ObxXidSnapshot *lower;
	bool		behind = false;
	int			count;
	const ObxPartition *partitions;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	last = obx_segment_find_last(snapshot);
	lower = last != NULL ? last->snapshot : obx_xid_snapshot_empty();
	partitions = obx_partition_array(&count);
	for (int i = 0; !behind && i < count; i++)
	{
		ObxPartitionScan scan;

		if (!obx_partition_scan_open(&scan, partitions[i].relid, snapshot))
			continue;
		behind = has_event(&scan, upto, lower->xmax, upto->xmax - 1, own);
		for (int j = 0; !behind && j < lower->nrunning; j++)
			behind = has_event(&scan, upto, lower->running[j], lower->running[j], own);
		obx_partition_scan_close(&scan, false);
	}
	UnregisterSnapshot(snapshot);
	return behind;
}

bool
obx_sequencer_append(bool wait, ObxSequenced *result)
{
	MemoryContext memory;
	MemoryContext old;

	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot give positions to events during recovery")));
	if (!obx_segment_lock(wait))
		return false;
	if (synchronous_commit < SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);

	memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox sequencer",
								   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(memory);

	/*
	 * what was loaded is made to fit together first, and the snapshot sees
	 * that
	 */
	(void) obx_generation_follow();
	PushActiveSnapshot(GetTransactionSnapshot());
	*result = append_difference();
	PopActiveSnapshot();
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	return true;
}
