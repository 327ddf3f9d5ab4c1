/*
 * outbox.trace(): the events of a correlation as a tree, and what became of
 * each in every subscription that asked for it.
 *
 * Runs as the extension's owner: it reads the log for every role that may call
 * it.  It evaluates no code of users.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "log/read.h"
#include "sqlapi/argument.h"
#include "subscription/outcome.h"

PG_FUNCTION_INFO_V1(obx_sql_trace);

/* Columns of the result. */
enum
{
	DEPTH,
	POSITION,
	ID,
	CAUSATION_ID,
	TIME,
	TYPE,
	KEY,
	SOURCE,
	SUBSCRIPTION,
	STATE,
	ATTEMPTS,
	HANDLED_AT,
	COLUMNS
};

/* An event of the correlation; others are named by their index, -1 for none. */
typedef struct TracedEvent
{
	int64		id;
	uint64		xid;
	int64		position;		/* 0: none yet */
	int64		causation_id;	/* 0: none */
	HeapTuple	tuple;			/* in the layout of outbox.event, less what is
								 * large */
	int			first_effect;
	int			last_effect;
	int			next;			/* effect of the same cause */
} TracedEvent;

typedef struct Trace
{
	ReturnSetInfo *result;
	TupleTableSlot *slot;
	int			nnodes;
	TracedEvent *nodes;			/* by position */
	List	   *followers;
	List	   *subscriptions;
} Trace;

/* ---- reading ---- */

static int64
get_number(TupleTableSlot *slot, ObxEventColumn column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column + 1, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/* Those whose positions are looked up come in the order of transactions. */
static void
read_events(Trace *trace, Datum correlation_id)
{
	Oid			type = TEXTOID;
	ObxPlace	place = {0};

	if (SPI_execute_with_args("SELECT id, xid, \"time\", type, source, key, NULL::pg_catalog.text,"
							  " NULL::pg_catalog.jsonb, NULL::pg_catalog.jsonb, NULL::pg_catalog.jsonb,"
							  " correlation_id, causation_id FROM outbox.event"
							  " WHERE correlation_id OPERATOR(pg_catalog.=) $1 ORDER BY xid, id",
							  1, &type, &correlation_id, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the events of a correlation");

	trace->slot = MakeSingleTupleTableSlot(SPI_tuptable->tupdesc, &TTSOpsHeapTuple);
	trace->nnodes = (int) Min(SPI_processed, INT_MAX);
	trace->nodes = MemoryContextAllocHuge(CurrentMemoryContext,
										  Max(trace->nnodes, 1) * sizeof(TracedEvent));
	place.memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox place",
										 ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < trace->nnodes; i++)
	{
		TracedEvent *node = &trace->nodes[i];

		CHECK_FOR_INTERRUPTS();
		node->tuple = SPI_tuptable->vals[i];
		ExecStoreHeapTuple(node->tuple, trace->slot, false);
		node->id = get_number(trace->slot, OBX_EVENT_ID);
		node->xid = (uint64) get_number(trace->slot, OBX_EVENT_XID);
		node->causation_id = get_number(trace->slot, OBX_EVENT_CAUSATION_ID);
		node->position = obx_event_locate(GetActiveSnapshot(), node->xid, node->id, &place);
	}
	MemoryContextDelete(place.memory);
}

static void
open_followers(Trace *trace)
{
	ListCell   *lc;

	trace->subscriptions = obx_subscription_list();
	foreach(lc, trace->subscriptions)
		trace->followers = lappend(trace->followers, obx_outcome_open(lfirst(lc)));
}

/* ---- the tree ---- */

/* Events without a position come last. */
static int
compare_nodes(const void *a, const void *b)
{
	const TracedEvent *left = a;
	const TracedEvent *right = b;

	if ((left->position == 0) != (right->position == 0))
		return left->position == 0 ? 1 : -1;
	if (left->position != right->position)
		return left->position < right->position ? -1 : 1;
	return (left->id > right->id) - (left->id < right->id);
}

typedef struct TracedEntry
{
	int64		id;				/* hash key */
	int			node;
} TracedEntry;

static HTAB *
hash_nodes(const Trace *trace)
{
	HASHCTL		control = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(TracedEntry),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *hash = hash_create("pg_outbox trace", Max(trace->nnodes, 16), &control,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (int i = 0; i < trace->nnodes; i++)
	{
		TracedEntry *entry = hash_search(hash, &trace->nodes[i].id, HASH_ENTER, NULL);

		entry->node = i;
	}
	return hash;
}

/* Hangs each event below its cause; returns the first of those that have none here. */
static int
build_tree(Trace *trace)
{
	HTAB	   *hash = hash_nodes(trace);
	TracedEvent top = {.first_effect = -1,.last_effect = -1};

	for (int i = 0; i < trace->nnodes; i++)
		trace->nodes[i].first_effect = trace->nodes[i].last_effect = trace->nodes[i].next = -1;
	for (int i = 0; i < trace->nnodes; i++)
	{
		TracedEvent *node = &trace->nodes[i];
		TracedEntry *entry = NULL;
		TracedEvent *cause;

		/* a cause is always older than its effect */
		if (node->causation_id < node->id)
			entry = hash_search(hash, &node->causation_id, HASH_FIND, NULL);
		cause = entry != NULL ? &trace->nodes[entry->node] : &top;
		if (cause->last_effect < 0)
			cause->first_effect = i;
		else
			trace->nodes[cause->last_effect].next = i;
		cause->last_effect = i;
	}
	hash_destroy(hash);
	return top.first_effect;
}

/* ---- rows ---- */

static void
put_row(const Trace *trace, const TracedEvent *node, int depth, const char *subscription,
		const ObxOutcome *outcome)
{
	Datum		values[COLUMNS] = {0};
	bool		nulls[COLUMNS] = {false};

	values[DEPTH] = Int32GetDatum(depth);
	values[POSITION] = Int64GetDatum(node->position);
	nulls[POSITION] = node->position == 0;
	values[ID] = Int64GetDatum(node->id);
	values[CAUSATION_ID] = Int64GetDatum(node->causation_id);
	nulls[CAUSATION_ID] = node->causation_id == 0;
	values[TIME] = slot_getattr(trace->slot, OBX_EVENT_TIME + 1, &nulls[TIME]);
	values[TYPE] = slot_getattr(trace->slot, OBX_EVENT_TYPE + 1, &nulls[TYPE]);
	values[KEY] = slot_getattr(trace->slot, OBX_EVENT_KEY + 1, &nulls[KEY]);
	values[SOURCE] = slot_getattr(trace->slot, OBX_EVENT_SOURCE + 1, &nulls[SOURCE]);
	nulls[SUBSCRIPTION] = nulls[STATE] = subscription == NULL;
	nulls[ATTEMPTS] = subscription == NULL || outcome->attempts < 0;
	nulls[HANDLED_AT] = subscription == NULL || outcome->at == 0;
	if (subscription != NULL)
	{
		values[SUBSCRIPTION] = CStringGetTextDatum(subscription);
		values[STATE] = CStringGetTextDatum(obx_outcome_name(outcome->state));
		values[ATTEMPTS] = Int32GetDatum(outcome->attempts);
		values[HANDLED_AT] = TimestampTzGetDatum(outcome->at);
	}
	tuplestore_putvalues(trace->result->setResult, trace->result->setDesc, values, nulls);
}

/* One row for each subscription that the event concerns, or one for none. */
static void
put_node(const Trace *trace, const TracedEvent *node, int depth)
{
	ObxReadEvent event = {
		.position = node->position,
		.id = node->id,
		.xid = node->xid,
		.slot = trace->slot
	};
	bool		is_put = false;
	ListCell   *follower;
	ListCell   *subscription;

	ExecStoreHeapTuple(node->tuple, trace->slot, false);
	forboth(follower, trace->followers, subscription, trace->subscriptions)
	{
		ObxOutcome	outcome;

		obx_outcome_find(lfirst(follower), &event, &outcome);
		if (obx_outcome_name(outcome.state) == NULL)
			continue;
		put_row(trace, node, depth, ((ObxSubscription *) lfirst(subscription))->name, &outcome);
		is_put = true;
	}
	if (!is_put)
		put_row(trace, node, depth, NULL, NULL);
}

/* Depth first; a chain can be longer than the stack is deep. */
static void
put_tree(const Trace *trace, int first)
{
	int		   *path = palloc((trace->nnodes + 1) * sizeof(int));
	int			depth = 0;

	path[0] = first;
	while (depth >= 0)
	{
		const TracedEvent *node;

		CHECK_FOR_INTERRUPTS();
		if (path[depth] < 0)
		{
			depth--;
			continue;
		}
		node = &trace->nodes[path[depth]];
		put_node(trace, node, depth);
		path[depth] = node->next;
		path[++depth] = node->first_effect;
	}
}

/*
 * trace(correlation_id)
 */
Datum
obx_sql_trace(PG_FUNCTION_ARGS)
{
	Trace		trace = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	obx_argument_require(fcinfo, 0, "correlation_id");
	InitMaterializedSRF(fcinfo, 0);

	SPI_connect();
	read_events(&trace, PG_GETARG_DATUM(0));
	qsort(trace.nodes, trace.nnodes, sizeof(TracedEvent), compare_nodes);
	open_followers(&trace);
	put_tree(&trace, build_tree(&trace));
	ExecDropSingleTupleTableSlot(trace.slot);
	SPI_finish();
	return (Datum) 0;
}
