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
#include "catalog/tally.h"
#include "log/generation.h"
#include "log/segment.h"
#include "log/xid_snapshot.h"
#include "sequencer/difference.h"
#include "sequencer/sequencer.h"

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

/* OID of the outbox.segment for which check_counter() has looked at all there is. */
static Oid	counter_checked = InvalidOid;

/* ---- order ---- */

static int
compare_transactions(const void *a, const void *b)
{
	int64		left = ((const ObxTally *) a)->max_id;
	int64		right = ((const ObxTally *) b)->max_id;

	return (left > right) - (left < right);
}

static ObxTally *
sort_transactions(HTAB *hash, int *count)
{
	ObxTally   *transactions;
	ObxTally   *transaction;
	HASH_SEQ_STATUS status;
	int			i = 0;

	*count = hash_get_num_entries(hash);
	transactions = MemoryContextAllocHuge(CurrentMemoryContext,
										  Max(*count, 1) * sizeof(ObxTally));
	hash_seq_init(&status, hash);
	while ((transaction = hash_seq_search(&status)) != NULL)
		transactions[i++] = *transaction;
	qsort(transactions, *count, sizeof(ObxTally), compare_transactions);
	return transactions;
}

/* ---- appending ---- */

/* Appends one segment of the given transactions, and returns it. */
static ObxSegment *
append_segment(const ObxTally *transactions, int count, const ObxSegment *last,
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
 * unfinished for ever, or look as if they had ended before a subscription
 * began: say so instead of waiting, or of passing events over.
 */
static void
check_counter(const ObxSegment *last, const ObxXidSnapshot *upper)
{
	uint64		xid = last != NULL ? last->snapshot->xmax : 0;
	uint64		next = upper->xmax;

	/*
	 * What is noted elsewhere is looked up once in a process: a counter goes
	 * back while the server is down.  It may be newer than the snapshot.
	 */
	if (xid <= next && counter_checked != obx_object_require(OBX_SEGMENT))
	{
		xid = obx_generation_noted_xid();
		next = obx_generation_next_xid();
	}
	if (xid > next)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the log of pg_outbox comes from the future of this server"),
				 errdetail("It refers to transaction " UINT64_FORMAT
						   ", the server's next one is " UINT64_FORMAT ".",
						   xid, next),
				 errhint("Was pg_resetwal run?  Restore the database into a new cluster.")));
	counter_checked = obx_object_require(OBX_SEGMENT);
}

static ObxSequenced
append_difference(void)
{
	Snapshot	snapshot = GetActiveSnapshot();
	ObxSegment *last = obx_segment_find_last(snapshot);
	ObxXidSnapshot *upper = obx_generation_snapshot();
	int64		head = last != NULL ? obx_segment_last_position(last) : 0;
	ObxSequenced result = {.head = head};
	ObxTally   *transactions;
	int			count;

	check_counter(last, upper);
	transactions = sort_transactions(obx_difference_find(find_lower(last, head), upper, snapshot),
									 &count);
	if (count == 0)
	{
		/* what is loaded later has xids that were looked at */
		if (obx_generation_is_settled())
			remember_scanned(head, upper);
		return result;
	}

	obx_generation_refuse_load();
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

bool
obx_sequencer_is_behind(const ObxXidSnapshot *upto, uint64 own)
{
	Snapshot	snapshot;
	ObxSegment *last;
	const ObxXidSnapshot *lower;
	bool		behind;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	last = obx_segment_find_last(snapshot);
	lower = last != NULL ? last->snapshot : obx_xid_snapshot_empty();
	behind = obx_difference_has_event(lower, upto, own, snapshot);
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
