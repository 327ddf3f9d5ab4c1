/*
 * Appending events to the log.
 *
 * While the after-triggers of a statement fire, events are collected in a
 * buffer and written to the heap together when the statement ends, which saves
 * most of the cost of a row.  This must have no visible effect: an event
 * belongs to the subtransaction that emitted it.  So the buffer remembers the
 * subtransaction of each event, and writes only the events of the current one.
 * A commit hands a subtransaction's events to its parent; an abort forgets
 * them.
 *
 * The causal order relies on when the id is assigned: after the event was
 * emitted, when the transaction holds the locks of its row, and before it
 * commits.  So the id can be assigned as late as the row is written, for the
 * whole buffer at once.  It must follow the order of emission: before an event
 * gets its id, all events emitted before it get theirs, even if they are
 * written later.
 *
 * Must not know triggers, subscribers, processes.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "base/hook.h"
#include "base/table.h"
#include "catalog/names.h"
#include "emit/append.h"
#include "emit/context.h"
#include "emit/contract.h"
#include "emit/depth.h"
#include "emit/tally.h"
#include "log/counter.h"
#include "log/generation.h"
#include "log/partition.h"
#include "log/row.h"
#include "log/write.h"

/* A full buffer is written before its statement ends. */
#define OBX_BUFFER_EVENTS	1000
#define OBX_BUFFER_BYTES	(512 * 1024)

/* So far back from the end an event can be held in a full buffer. */
#define OBX_HELD_EVENTS		16

typedef struct BufferedEvent
{
	TupleTableSlot *slot;		/* holds the row; made once, used again */
	HeapTuple	row;
	SubTransactionId subxact;	/* to which the event belongs */
	TimestampTz time;
	int64		id;				/* 0: has none yet */
	Size		size;
	bool		held;			/* its emitter may retract it */
} BufferedEvent;

/*
 * Events not yet written, in the order of emission.  Slots beyond "count" are
 * empty and wait for use.  Everything but the tuples lives as long as the
 * process; tuples live in "memory", which is reset when the buffer runs empty.
 */
static struct
{
	MemoryContext memory;
	TupleDesc	tupdesc;
	int			count;
	int			numbered;		/* so many have their id: the first ones */
	int			made;			/* slots that exist */
	Size		bytes;
	BufferedEvent events[OBX_BUFFER_EVENTS];
}			buffer;

/* how many statements whose triggers fire are on the stack */
static int	statement_depth = 0;

/* counts appended events, to tell whether a statement emitted any */
static uint64 appended = 0;

static bool has_emitted = false;

static ExecutorFinish_hook_type previous_executor_finish = NULL;

/* ---- writing ---- */

/*
 * Opens a table that has the log's columns: the partition that will be written
 * to, so that no producer waits here for a process that drops another
 * partition.
 */
static Relation
open_any(void)
{
	Relation	partition = try_relation_open(obx_partition_find(GetCurrentTimestamp()),
											  AccessShareLock);

	if (partition != NULL)
		return partition;
	return table_open(obx_object_require(OBX_EVENT), AccessShareLock);
}

/*
 * The tuple descriptor that buffered tuples are formed with.  The log's row
 * type does not change while the extension has one version.
 */
static void
prepare_buffer(void)
{
	Relation	log;
	MemoryContext old;

	if (likely(buffer.memory != NULL))
		return;

	log = open_any();
	if (RelationGetNumberOfAttributes(log) != OBX_EVENT_COLUMNS)
		elog(ERROR, "outbox.event has %d columns instead of %d",
			 RelationGetNumberOfAttributes(log), OBX_EVENT_COLUMNS);
	old = MemoryContextSwitchTo(TopMemoryContext);
	buffer.tupdesc = CreateTupleDescCopy(RelationGetDescr(log));
	buffer.tupdesc->tdtypeid = get_rel_type_id(obx_object_require(OBX_EVENT));
	buffer.memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox event buffer",
										  ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(old);
	relation_close(log, AccessShareLock);
}

/* Writes events that lie side by side in the buffer and in one partition. */
static void
write_events(Relation partition, BufferedEvent *events, int count)
{
	TupleTableSlot *slots[OBX_BUFFER_EVENTS];
	int64		ids[OBX_BUFFER_EVENTS];
	ObxTally	tally = {
		.events = count,
		.min_id = events[0].id,
		.max_id = events[count - 1].id, /* they rise */
		.min_time = events[0].time,
		.max_time = events[0].time
	};

	for (int i = 0; i < count; i++)
	{
		slots[i] = events[i].slot;
		ids[i] = events[i].id;
		tally.min_time = Min(tally.min_time, events[i].time);
		tally.max_time = Max(tally.max_time, events[i].time);
	}
	obx_write_rows(partition, slots, ids, count);
	obx_tally_count(&tally);
}

/* Takes entries [first, first + count) out of the buffer, keeping their slots. */
static void
remove_events(int first, int count)
{
	BufferedEvent removed[OBX_BUFFER_EVENTS];
	int			behind = buffer.count - first - count;

	for (int i = 0; i < count; i++)
	{
		ExecClearTuple(buffer.events[first + i].slot);
		buffer.bytes -= buffer.events[first + i].size;
	}
	if (behind > 0)
	{
		memcpy(removed, &buffer.events[first], count * sizeof(BufferedEvent));
		memmove(&buffer.events[first], &buffer.events[first + count],
				behind * sizeof(BufferedEvent));
		memcpy(&buffer.events[first + behind], removed, count * sizeof(BufferedEvent));
	}
	buffer.numbered -= Min(Max(buffer.numbered - first, 0), count);
	buffer.count -= count;

	if (buffer.count == 0)
		MemoryContextReset(buffer.memory);
}

/*
 * Gives ids to all events that have none: those of outer subtransactions too,
 * for they were emitted first.
 */
static void
number_events(void)
{
	int64		id;

	if (buffer.numbered == buffer.count)
		return;
	id = obx_counter_draw(buffer.count - buffer.numbered);
	for (; buffer.numbered < buffer.count; buffer.numbered++, id++)
	{
		BufferedEvent *event = &buffer.events[buffer.numbered];

		event->id = id;
		obx_row_set_id(event->row, id);
	}
}

/* The number of events before the first of the last few that is held. */
static int
find_held(int first)
{
	for (int i = Max(first, buffer.count - OBX_HELD_EVENTS); i < buffer.count; i++)
		if (buffer.events[i].held)
			return i;
	return buffer.count;
}

/* Held events can no longer be retracted: they must now fulfil the contracts of their types. */
static void
check_held(int first, int end)
{
	for (int i = first; i < end; i++)
		if (buffer.events[i].held)
		{
			TupleTableSlot *slot = buffer.events[i].slot;
			bool		isnull;

			obx_contract_check(slot_getattr(slot, OBX_EVENT_TYPE + 1, &isnull),
							   slot_getattr(slot, OBX_EVENT_DATA + 1, &isnull));
		}
}

/*
 * Writes what belongs to the current subtransaction; what an outer one
 * emitted waits for it, for an inner abort must not take it along.  Events
 * that are held stay, unless "all".
 */
static void
flush_buffer(bool all)
{
	SubTransactionId subxact = GetCurrentSubTransactionId();
	MemoryContext scratch = CurrentMemoryContext;
	MemoryContext old;
	int			first = buffer.count;
	int			end;
	bool		pushed;

	/* inner subtransactions' events are at the end */
	while (first > 0 && buffer.events[first - 1].subxact == subxact)
		first--;
	end = all ? buffer.count : find_held(first);
	if (first == end)
		return;
	check_held(first, end);

	number_events();
	/* writing many at a time leaks */
	if (end - first > 1)
		scratch = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox flush",
										ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	pushed = obx_active_snapshot_ensure();
	for (int i = first; i < end;)
	{
		Relation	partition = obx_write_open_partition(buffer.events[i].time);
		int			next = i + 1;

		while (next < end &&
			   obx_partition_find(buffer.events[next].time) == RelationGetRelid(partition))
			next++;
		write_events(partition, &buffer.events[i], next - i);
		relation_close(partition, NoLock);
		i = next;
	}
	obx_active_snapshot_release(pushed);
	MemoryContextSwitchTo(old);
	if (scratch != old)
		MemoryContextDelete(scratch);

	remove_events(first, end - first);
}

/* ---- emitting ---- */

/*
 * Forms the row in the buffer's memory and remembers it.  If it has its id,
 * so have all before it.
 */
static void
buffer_event(Datum *values, bool *nulls, bool held)
{
	BufferedEvent *event = &buffer.events[buffer.count];
	MemoryContext old;

	if (buffer.count == buffer.made)
	{
		old = MemoryContextSwitchTo(TopMemoryContext);
		event->slot = MakeSingleTupleTableSlot(buffer.tupdesc, &TTSOpsHeapTuple);
		MemoryContextSwitchTo(old);
		buffer.made++;
	}

	old = MemoryContextSwitchTo(buffer.memory);
	event->row = obx_row_form(values, nulls);
	ExecStoreHeapTuple(event->row, event->slot, true);
	MemoryContextSwitchTo(old);

	event->subxact = GetCurrentSubTransactionId();
	event->time = DatumGetTimestampTz(values[OBX_EVENT_TIME]);
	event->id = DatumGetInt64(values[OBX_EVENT_ID]);
	event->size = event->row->t_len;
	event->held = held;
	buffer.bytes += event->size;
	buffer.count++;
	if (event->id != 0)
		buffer.numbered = buffer.count;
}

void
obx_event_inherit(Datum *values, bool *nulls)
{
	const ObxContext *context = obx_context_current();
	const char *correlation = obx_context_correlation();
	Jsonb	   *own = nulls[OBX_EVENT_HEADERS] ? NULL : DatumGetJsonbP(values[OBX_EVENT_HEADERS]);

	if (!obx_settings_verified)
		obx_settings_verify();
	values[OBX_EVENT_HEADERS] = JsonbPGetDatum(obx_context_headers(own));
	nulls[OBX_EVENT_HEADERS] = false;
	/* they are inherited from cause to cause, and each may add some */
	obx_event_check_headers(VARSIZE(DatumGetPointer(values[OBX_EVENT_HEADERS])));

	nulls[OBX_EVENT_CORRELATION_ID] = (correlation == NULL);
	if (correlation != NULL)
	{
		obx_event_check_correlation(strlen(correlation));
		values[OBX_EVENT_CORRELATION_ID] = CStringGetTextDatum(correlation);
	}

	nulls[OBX_EVENT_CAUSATION_ID] = (context == NULL || context->event_id == 0);
	if (!nulls[OBX_EVENT_CAUSATION_ID])
		values[OBX_EVENT_CAUSATION_ID] = Int64GetDatum(context->event_id);
}

/* An event that has no id yet gets both together. */
static void
start_correlation(Datum *values, bool *nulls, int64 id)
{
	char		digits[MAXINT8LEN + 1];

	if (!nulls[OBX_EVENT_CORRELATION_ID] || id == 0)
		return;
	pg_lltoa(id, digits);
	values[OBX_EVENT_CORRELATION_ID] = CStringGetTextDatum(digits);
	nulls[OBX_EVENT_CORRELATION_ID] = false;
}

static void
write_if_due(void)
{
	if (statement_depth == 0)
		flush_buffer(true);
	else if (buffer.count >= OBX_BUFFER_EVENTS || buffer.bytes > OBX_BUFFER_BYTES)
	{
		flush_buffer(false);
		if (buffer.count >= OBX_BUFFER_EVENTS)
			flush_buffer(true);
	}
}

/*
 * Puts an event that has inherited into the buffer; returns its id, or 0 if it
 * is to have it later.
 */
static int64
put_event(Datum *values, bool *nulls, bool need_id, bool held)
{
	int64		id = 0;

	prepare_buffer();
	if (!has_emitted)
	{
		has_emitted = true;
		obx_doorbell_arm();
	}

	/*
	 * the transaction's first: a log that has moved steps the counter of ids,
	 * and searching for an id leans on it
	 */
	values[OBX_EVENT_XID] = FullTransactionIdGetDatum(FullTransactionIdFromU64(obx_generation_own_xid()));
	if (need_id)
	{
		number_events();
		id = obx_counter_draw(1);
	}
	values[OBX_EVENT_ID] = Int64GetDatum(id);
	values[OBX_EVENT_TIME] = TimestampTzGetDatum(GetCurrentTimestamp());
	nulls[OBX_EVENT_ID] = nulls[OBX_EVENT_XID] = nulls[OBX_EVENT_TIME] = false;
	start_correlation(values, nulls, id);

	/*
	 * There is room for one, always: what is left after the last flush is of
	 * outer subtransactions, each of which flushed when the buffer was full.
	 */
	buffer_event(values, nulls, held);
	appended++;
	write_if_due();
	return id;
}

static int64
append_event(Datum *values, bool *nulls, bool need_id, bool held)
{
	int			depth = obx_depth_check(values[OBX_EVENT_TYPE]);
	int64		id;

	/* one that is held may be taken back: it is checked when it is written */
	if (!held)
		obx_contract_check(values[OBX_EVENT_TYPE], values[OBX_EVENT_DATA]);
	obx_event_inherit(values, nulls);
	id = put_event(values, nulls, need_id || depth > 0, held);
	if (depth > 0)
		obx_depth_note(id, depth);
	return id;
}

int64
obx_event_append_complete(Datum *values, bool *nulls, bool need_id)
{
	return put_event(values, nulls, need_id, false);
}

int64
obx_event_append(Datum *values, bool *nulls)
{
	return append_event(values, nulls, true, false);
}

void
obx_event_emit(Datum *values, bool *nulls)
{
	(void) append_event(values, nulls, false, false);
}

int64
obx_event_append_held(Datum *values, bool *nulls)
{
	return append_event(values, nulls, true, true);
}

bool
obx_event_retract(int64 id)
{
	SubTransactionId subxact = GetCurrentSubTransactionId();

	for (int i = buffer.count - 1; i >= Max(0, buffer.count - OBX_HELD_EVENTS); i--)
		if (buffer.events[i].id == id && buffer.events[i].subxact == subxact)
		{
			remove_events(i, 1);
			return true;
		}
	return false;
}

void
obx_append_flush(void)
{
	flush_buffer(true);
}

void
obx_append_together(void (*function) (void *arg), void *arg)
{
	statement_depth++;
	PG_TRY();
	{
		function(arg);
	}
	PG_FINALLY();
	{
		statement_depth--;
	}
	PG_END_TRY();
	flush_buffer(true);
}

/* ---- statements ---- */

/*
 * After-triggers fire in here: what they emit is written at the end, unless
 * the statement emitted nothing itself (a foreign key's check between two
 * captured rows must not write the buffer row by row).
 */
static void
finish_executor(QueryDesc *query)
{
	uint64		before = appended;

	statement_depth++;
	PG_TRY();
	{
		if (previous_executor_finish)
			previous_executor_finish(query);
		else
			standard_ExecutorFinish(query);
	}
	PG_FINALLY();
	{
		statement_depth--;
	}
	PG_END_TRY();

	if (appended != before)
		flush_buffer(true);
}

/* COPY fires its triggers without the executor's help. */
static void
begin_copy(Node *command, uint64 *before)
{
	*before = appended;
	statement_depth++;
}

static void
leave_copy(uint64 before)
{
	statement_depth--;
}

static void
flush_after_copy(Node *command, uint64 before)
{
	if (appended != before)
		flush_buffer(true);
}

static const ObxHookWatcher copy_watcher = {
	.command = T_CopyStmt,
	.before = begin_copy,
	.leave = leave_copy,
	.after = flush_after_copy,
};

/* ---- transactions ---- */

static void
end_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			/* deferred triggers may have emitted outside any statement */
			if (buffer.count > 0)
				flush_buffer(true);
			obx_tally_note();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			if (buffer.count > 0)
				remove_events(0, buffer.count);
			obx_tally_forget();
			statement_depth = 0;
			has_emitted = false;
			break;
		default:
			break;
	}
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent,
				   void *arg)
{
	if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (int i = buffer.count; i > 0 && buffer.events[i - 1].subxact == subxact; i--)
			buffer.events[i - 1].subxact = parent;
		obx_tally_end_subtransaction(subxact, parent, false);
	}
	else if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		int			first = buffer.count;

		while (first > 0 && buffer.events[first - 1].subxact == subxact)
			first--;
		if (first < buffer.count)
			remove_events(first, buffer.count - first);
		obx_tally_end_subtransaction(subxact, parent, true);
	}
}

void
obx_append_init(void)
{
	previous_executor_finish = ExecutorFinish_hook;
	ExecutorFinish_hook = finish_executor;
	obx_hook_watch(&copy_watcher, 1);
	RegisterXactCallback(end_transaction, NULL);
	RegisterSubXactCallback(end_subtransaction, NULL);
}
