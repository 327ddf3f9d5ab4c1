/*
 * How far into the log's order the events of a partition reach.
 *
 * A segment's snapshot says which transactions have positions by then, and a
 * later segment's says so of all of them, too.  So whether all events of a
 * partition have positions up to a segment is asked of the partition's index on
 * (xid, id): has it any of the transactions that were running then, or came
 * later?  Nothing else of partition and segments is read, and the segment at
 * which the answer changes is found by halves.
 *
 * Must not know what is dropped, nor why.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "log/reach.h"
#include "log/scan.h"

/* A partition, to look for transactions in. */
typedef struct Probe
{
	ObxPartitionScan scan;
	Snapshot	snapshot;
} Probe;

/* ---- looking for transactions ---- */

/* The caller holds a lock on the partition. */
static void
open_probe(Probe *probe, Oid partition)
{
	/* what this transaction has written counts */
	CommandCounterIncrement();
	probe->snapshot = RegisterSnapshot(GetLatestSnapshot());
	if (!obx_partition_scan_open(&probe->scan, partition, probe->snapshot))
		elog(ERROR, "partition %u is gone", partition);
}

static void
close_probe(Probe *probe)
{
	obx_partition_scan_close(&probe->scan, false);
	UnregisterSnapshot(probe->snapshot);
}

/* Is there a visible event with from <= xid <= to? */
static bool
has_event(Probe *probe, uint64 from, uint64 to)
{
	obx_partition_scan_set_range(&probe->scan, from, to, ForwardScanDirection);
	return obx_partition_scan_next(&probe->scan);
}

static bool
is_beyond(Probe *probe, const ObxXidSnapshot *snapshot)
{
	if (has_event(probe, snapshot->xmax, PG_UINT64_MAX))
		return true;
	for (int i = 0; i < snapshot->nrunning; i++)
		if (has_event(probe, snapshot->running[i], snapshot->running[i]))
			return true;
	return false;
}

bool
obx_reach_is_empty(Oid partition)
{
	return !obx_reach_is_beyond(partition, NULL);
}

bool
obx_reach_is_beyond(Oid partition, const ObxXidSnapshot *snapshot)
{
	Probe		probe;
	bool		result;

	open_probe(&probe, partition);
	result = snapshot != NULL ? is_beyond(&probe, snapshot) :
		has_event(&probe, 0, PG_UINT64_MAX);
	close_probe(&probe);
	return result;
}

/* ---- segments ---- */

/* Is the question answered with yes by the segment, and by all after it? */
typedef bool (*Question) (const ObxSegment *segment, void *arg);

/* The first segment that answers with yes, among those up to one that does. */
static ObxSegment *
bisect(Question question, void *arg, const ObxSegment *last)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox reach",
												 ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	int64		low = obx_segment_oldest(NULL);
	int64		high = last->first_position;

	while (low < high)
	{
		ObxSegment *segment = obx_segment_find_at(low + (high - low) / 2, NULL);

		if (question(segment, arg))
			high = segment->first_position;
		else
			low = obx_segment_last_position(segment) + 1;
		MemoryContextReset(memory);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(memory);
	return obx_segment_find_at(high, NULL);
}

static bool
has_snapshot(const ObxSegment *segment, void *arg)
{
	return segment->snapshot->xmax >= *(uint64 *) arg;
}

static bool
covers(const ObxSegment *segment, void *arg)
{
	return !is_beyond(arg, segment->snapshot);
}

/* The segment that holds the position, NULL if none does. */
static ObxSegment *
find_holder(int64 position)
{
	ObxSegment *segment = position > 0 ? obx_segment_find_at(position, NULL) : NULL;

	return segment != NULL && segment->first_position <= position ? segment : NULL;
}

/* The last one with this one's snapshot. */
static ObxSegment *
find_group_end(ObxSegment *segment)
{
	ObxSegment *next;

	while ((next = obx_segment_find_at(obx_segment_last_position(segment) + 1, NULL)) != NULL &&
		   next->snapshot->xmax == segment->snapshot->xmax)
		segment = next;
	return segment;
}

ObxSegment *
obx_reach_find_cut(int64 before)
{
	ObxSegment *segment = find_holder(before - 1);
	ObxSegment *next;

	if (segment == NULL)
		return NULL;
	if (obx_segment_last_position(segment) < before)
	{
		next = obx_segment_find_at(before, NULL);
		if (next == NULL || next->snapshot->xmax != segment->snapshot->xmax)
			return segment;
	}
	/* its snapshot's segments are not all before: the one before them */
	segment = bisect(has_snapshot, &segment->snapshot->xmax, segment);
	return find_holder(segment->first_position - 1);
}

ObxSegment *
obx_reach_find(Oid partition, const ObxSegment *cut, ObxSegment **last)
{
	Probe		probe;
	ObxSegment *first;

	open_probe(&probe, partition);
	first = bisect(covers, &probe, cut);
	close_probe(&probe);
	first = bisect(has_snapshot, &first->snapshot->xmax, first);
	*last = find_group_end(first);
	return first;
}
