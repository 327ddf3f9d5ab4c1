/*
 * The transactions whose events one snapshot sees and an earlier one does not.
 *
 * Nobody gets a position while they are looked for, so this takes no longer for
 * a transaction of a million events: one of many says itself how many it has,
 * and what others have left behind is stepped over.
 *
 * Must not know positions.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/itup.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "catalog/tally.h"
#include "log/event.h"
#include "log/generation.h"
#include "log/partition.h"
#include "log/scan.h"
#include "sequencer/difference.h"

/* So many events of a transaction are not visible before it is asked whether any can be. */
#define OBX_UNSEEN_EVENTS 64

/* A scan of one partition, by ranges of transactions. */
typedef struct RangeScan
{
	ObxPartitionScan partition;
	const ObxXidSnapshot *upper;	/* what has ended */
	HTAB	   *tallied;		/* of ObxTally, to pass over; NULL for none */
	uint64		own;			/* so is this one; 0 for none */
	uint64		to;				/* the end of the range */
	uint64		xid;			/* of the entry it stands at */
	int			unseen;			/* events of it that the snapshot does not see */
} RangeScan;

/* ---- looking through the log ---- */

/* False if retention has dropped it: then all its events have positions. */
static bool
open_scan(RangeScan *scan, const ObxPartition *partition, Snapshot snapshot,
		  const ObxXidSnapshot *upper)
{
	memset(scan, 0, sizeof(RangeScan));
	if (!obx_partition_scan_open(&scan->partition, partition->relid, snapshot))
		return false;
	scan->partition.scan->xs_want_itup = true;
	scan->upper = upper;
	return true;
}

static void
close_scan(RangeScan *scan)
{
	obx_partition_scan_close(&scan->partition, false);
}

/* To the transactions with from <= xid < to. */
static void
set_range(RangeScan *scan, uint64 from, uint64 to)
{
	obx_partition_scan_set_range(&scan->partition, from, to - 1, ForwardScanDirection);
	scan->to = to;
	scan->xid = 0;
}

/* Is nothing to be learned from the events of the transaction it has come to? */
static bool
is_passed_over(const RangeScan *scan)
{
	return scan->xid == scan->own ||
		(scan->tallied != NULL && hash_search(scan->tallied, &scan->xid, HASH_FIND, NULL) != NULL);
}

/* Can none of its events be visible? */
static bool
is_invisible(const RangeScan *scan)
{
	return !obx_xid_snapshot_has_ended(scan->upper, scan->xid) ||
		obx_generation_has_aborted(scan->xid);
}

/*
 * Fetches the next visible event.  A transaction that was aborted, or goes on,
 * may have left a million entries: those are not gone through.
 */
static bool
next_event(RangeScan *scan)
{
	IndexScanDesc entries = scan->partition.scan;

	while (index_getnext_tid(entries, ForwardScanDirection) != NULL)
	{
		bool		isnull;
		Datum		entry = index_getattr(entries->xs_itup, 1, entries->xs_itupdesc, &isnull);
		uint64		xid = U64FromFullTransactionId(DatumGetFullTransactionId(entry));
		bool		skip = false;

		CHECK_FOR_INTERRUPTS();
		if (xid != scan->xid)
		{
			scan->xid = xid;
			scan->unseen = 0;
			skip = is_passed_over(scan);
		}
		if (!skip)
		{
			if (index_fetch_heap(entries, scan->partition.slot))
				return true;
			skip = ++scan->unseen % OBX_UNSEEN_EVENTS == 0 && is_invisible(scan);
		}
		if (skip)
			set_range(scan, xid + 1, scan->to);
	}
	return false;
}

/* ---- the difference ---- */

static HTAB *
make_transactions(const char *name)
{
	HASHCTL		control = {
		.keysize = sizeof(uint64),
		.entrysize = sizeof(ObxTally),
		.hcxt = CurrentMemoryContext
	};

	return hash_create(name, 256, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* ObxTallyVisitor: adds the events to those of their transaction. */
static void
add_tally(const ObxTally *tally, void *arg)
{
	HTAB	   *transactions = arg;
	bool		found;
	ObxTally   *sum = hash_search(transactions, &tally->xid, HASH_ENTER, &found);

	if (!found)
		sum->events = 0;
	obx_tally_add(sum, tally);
}

/* The event that the scan has come to. */
static ObxTally
tally_event(const RangeScan *scan)
{
	bool		isnull;
	int64		id = DatumGetInt64(slot_getattr(scan->partition.slot, OBX_EVENT_ID + 1, &isnull));
	TimestampTz time = DatumGetTimestampTz(slot_getattr(scan->partition.slot, OBX_EVENT_TIME + 1, &isnull));
	ObxTally	tally = {
		.xid = scan->xid,
		.events = 1,
		.min_id = id,
		.max_id = id,
		.min_time = time,
		.max_time = time
	};

	return tally;
}

/* Counts the visible events with from <= xid < to. */
static void
count_events(HTAB *transactions, RangeScan *scan, uint64 from, uint64 to)
{
	ObxTally	sum = {.events = 0};

	set_range(scan, from, to);
	while (next_event(scan))
	{
		ObxTally	event = tally_event(scan);

		if (sum.events > 0 && sum.xid != event.xid)
		{
			add_tally(&sum, transactions);
			sum.events = 0;
		}
		sum.xid = event.xid;
		obx_tally_add(&sum, &event);
	}
	if (sum.events > 0)
		add_tally(&sum, transactions);
}

/*
 * The ranges of transactions that the upper snapshot may see and the lower one
 * does not: from <= xid < to.  *range is 0 at first; false after the last one.
 */
static bool
next_range(const ObxXidSnapshot *lower, const ObxXidSnapshot *upper, int *range, uint64 *from,
		   uint64 *to)
{
	if ((*range)++ == 0)
	{
		*from = lower->xmax;
		*to = upper->xmax;
		return true;
	}
	while (*range - 2 < lower->nrunning &&
		   !obx_xid_snapshot_has_ended(upper, lower->running[*range - 2]))
		(*range)++;
	if (*range - 2 >= lower->nrunning)
		return false;
	*from = lower->running[*range - 2];
	*to = *from + 1;
	return true;
}

/* Where each transaction has a row, that is, which COPT=-DOBX_TALLIED_EVENTS=1 makes. */
#if defined(USE_ASSERT_CHECKING) && defined(OBX_TALLIED_EVENTS)
#define OBX_CHECK_TALLIES
#endif

#ifdef OBX_CHECK_TALLIES
/* Is what each transaction says of itself what there is? */
static void
check_tallies(HTAB *tallied, const ObxPartition *partitions, int count, Snapshot snapshot,
			  const ObxXidSnapshot *upper)
{
	HTAB	   *counted = make_transactions("pg_outbox counted transactions");
	HASH_SEQ_STATUS status;
	ObxTally   *tally;

	for (int i = 0; i < count; i++)
	{
		RangeScan	scan;

		if (!open_scan(&scan, &partitions[i], snapshot, upper))
			continue;
		hash_seq_init(&status, tallied);
		while ((tally = hash_seq_search(&status)) != NULL)
			count_events(counted, &scan, tally->xid, tally->xid + 1);
		close_scan(&scan);
	}
	hash_seq_init(&status, tallied);
	while ((tally = hash_seq_search(&status)) != NULL)
	{
		ObxTally   *found = hash_search(counted, &tally->xid, HASH_FIND, NULL);

		Assert(found == NULL ? tally->events == 0 : memcmp(found, tally, sizeof(ObxTally)) == 0);
	}
}
#endif

/* One that rolled back to a savepoint may have none. */
static void
add_tallied(HTAB *transactions, HTAB *tallied)
{
	HASH_SEQ_STATUS status;
	ObxTally   *tally;

	hash_seq_init(&status, tallied);
	while ((tally = hash_seq_search(&status)) != NULL)
		if (tally->events > 0)
			add_tally(tally, transactions);
}

/*
 * Collects the transactions whose events the upper snapshot sees and the lower
 * one does not.  Visibility of the rows decides: a transaction that ended may
 * have aborted, or have rolled back to a savepoint.  Large ones say themselves
 * how many events of theirs are visible.
 */
HTAB *
obx_difference_find(const ObxXidSnapshot *lower, const ObxXidSnapshot *upper, Snapshot snapshot)
{
	HTAB	   *transactions = make_transactions("pg_outbox transactions");
	HTAB	   *tallied = make_transactions("pg_outbox tallied transactions");
	int			count;
	const ObxPartition *partitions = obx_partition_array(&count);
	uint64		from;
	uint64		to;

	for (int range = 0; next_range(lower, upper, &range, &from, &to);)
		obx_tally_take(from, to, snapshot, add_tally, tallied);
	for (int i = 0; i < count; i++)
	{
		RangeScan	scan;

		if (!open_scan(&scan, &partitions[i], snapshot, upper))
			continue;
		if (hash_get_num_entries(tallied) > 0)
			scan.tallied = tallied;
		for (int range = 0; next_range(lower, upper, &range, &from, &to);)
			count_events(transactions, &scan, from, to);
		close_scan(&scan);
	}
#ifdef OBX_CHECK_TALLIES
	check_tallies(tallied, partitions, count, snapshot, upper);
#endif
	add_tallied(transactions, tallied);
	return transactions;
}

/* ---- whether there is one ---- */

/* Has the partition a visible event with from <= xid < to whose transaction had ended? */
static bool
has_ended_event(RangeScan *scan, uint64 from, uint64 to)
{
	set_range(scan, from, to);
	while (next_event(scan))
	{
		if (obx_xid_snapshot_has_ended(scan->upper, scan->xid))
			return true;
		/* none of its other events is asked for */
		set_range(scan, scan->xid + 1, to);
	}
	return false;
}

bool
obx_difference_has_event(const ObxXidSnapshot *lower, const ObxXidSnapshot *upper, uint64 own,
						 Snapshot snapshot)
{
	bool		found = false;
	int			count;
	const ObxPartition *partitions = obx_partition_array(&count);
	uint64		from;
	uint64		to;

	for (int i = 0; !found && i < count; i++)
	{
		RangeScan	scan;

		if (!open_scan(&scan, &partitions[i], snapshot, upper))
			continue;
		scan.own = own;
		for (int range = 0; !found && next_range(lower, upper, &range, &from, &to);)
			found = has_ended_event(&scan, from, to);
		close_scan(&scan);
	}
	return found;
}
