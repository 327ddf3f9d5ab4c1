/*
 * Triggers that fire for parts of one change.
 *
 * An update that moves a row to another partition is carried out as a delete
 * and an insert, whose triggers fire one right after the other.  The deleted
 * version says that it moved.  The inserted one belongs to it if the same
 * command of the same transaction made it: between the two no trigger of the
 * same rule fires.
 *
 * A TRUNCATE of a table fires the triggers of all tables below it too, in the
 * same command.  begin_truncate() numbers such commands.  A TRUNCATE that the apply
 * worker of logical replication carries out is no utility command and has the
 * number 0; but each of these starts a statement, at a time of its own.
 *
 * State lives for a transaction.  What an aborted subtransaction leaves of it
 * does no harm, for no later command has its number.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/hook.h"
#include "capture/row_move.h"

/* A row on its way. */
typedef struct Departure
{
	Oid			rule;			/* trigger with which the rule began */
	Oid			partition;		/* where the row was */
	HeapTuple	old;
	CommandId	command;		/* that deleted it */
	int64		event;			/* that says so, 0 for none */
} Departure;

/* In the transaction's memory, at most one for each rule. */
static List *departures = NIL;

static uint64 last_command = 0;
static uint64 current_command = 0;

/* Rules whose TRUNCATE was captured, and in which command. */
static List *truncated = NIL;
static uint64 truncated_command = 0;
static TimestampTz truncated_statement = 0;

/* ---- rows ---- */

bool
obx_row_move_is_departure(HeapTuple old)
{
	/* a row of a foreign table lies nowhere */
	return ItemPointerIsValid(&old->t_data->t_ctid) &&
		HeapTupleHeaderIndicatesMovedPartitions(old->t_data);
}

static Departure *
find_departure(Oid rule)
{
	ListCell   *lc;

	foreach(lc, departures)
	{
		Departure  *departure = lfirst(lc);

		if (departure->rule == rule)
			return departure;
	}
	return NULL;
}

void
obx_row_move_begin(Oid rule, Oid partition, HeapTuple old, int64 event)
{
	MemoryContext caller = MemoryContextSwitchTo(TopTransactionContext);
	Departure  *departure = find_departure(rule);

	if (departure == NULL)
	{
		departure = palloc0(sizeof(Departure));
		departure->rule = rule;
		departures = lappend(departures, departure);
	}
	else if (departure->old != NULL)
		heap_freetuple(departure->old);
	departure->partition = partition;
	departure->old = heap_copytuple(old);
	departure->command = HeapTupleHeaderGetCmax(old->t_data);
	departure->event = event;
	MemoryContextSwitchTo(caller);
}

/* Did the command that made the row leave also make this one? */
static bool
is_arrival(const Departure *departure, HeapTuple new)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmin(new->t_data)) &&
		HeapTupleHeaderGetCmin(new->t_data) == departure->command;
}

TupleTableSlot *
obx_row_move_finish(Oid rule, Relation partition, HeapTuple new, int64 *event)
{
	Departure  *departure = departures == NIL ? NULL : find_departure(rule);
	Relation	from;
	TupleConversionMap *map;
	TupleTableSlot *slot;
	HeapTuple	old;

	if (departure == NULL || departure->old == NULL)
		return NULL;
	old = departure->old;
	departure->old = NULL;
	if (!is_arrival(departure, new))
	{
		/* a foreign row does not say who made it: that it follows must do */
		if (partition->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
			*event = departure->event;
		heap_freetuple(old);
		return NULL;
	}

	/* the statement that fires this has locked the other one too */
	from = table_open(departure->partition, AccessShareLock);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(partition), &TTSOpsHeapTuple);
	map = convert_tuples_by_name(RelationGetDescr(from), RelationGetDescr(partition));
	if (map == NULL)
		ExecStoreHeapTuple(heap_copytuple(old), slot, true);
	else
	{
		ExecStoreHeapTuple(execute_attr_map_tuple(old, map), slot, true);
		free_conversion_map(map);
	}
	table_close(from, AccessShareLock);
	heap_freetuple(old);
	*event = departure->event;
	return slot;
}

/* ---- TRUNCATE ---- */

bool
obx_row_move_covers_truncate(Oid trigger, Oid source_trigger)
{
	MemoryContext caller;

	if (truncated_command != current_command ||
		truncated_statement != GetCurrentStatementStartTimestamp())
	{
		list_free(truncated);
		truncated = NIL;
		truncated_command = current_command;
		truncated_statement = GetCurrentStatementStartTimestamp();
	}
	if (trigger != source_trigger)
		return list_member_oid(truncated, source_trigger);

	caller = MemoryContextSwitchTo(TopTransactionContext);
	truncated = lappend_oid(truncated, source_trigger);
	MemoryContextSwitchTo(caller);
	return false;
}

static void
begin_truncate(Node *command, uint64 *outer)
{
	*outer = current_command;
	current_command = ++last_command;
}

static void
leave_truncate(uint64 outer)
{
	current_command = outer;
}

static const ObxHookWatcher truncate_watcher = {
	.command = T_TruncateStmt,
	.before = begin_truncate,
	.leave = leave_truncate,
};

/* ---- transactions ---- */

static void
end_transaction(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	/* their memory goes with the transaction */
	departures = NIL;
	truncated = NIL;
}

void
obx_row_move_init(void)
{
	obx_hook_watch(&truncate_watcher, 1);
	RegisterXactCallback(end_transaction, NULL);
}
