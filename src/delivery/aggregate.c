/*
 * Targets that are aggregates: events are folded into windows, key by key, and
 * a window that is complete becomes one event.
 *
 * The windows that a batch touches are kept in memory and written once, when
 * the batch is done with.  A run of calls may be undone and repeated; so each
 * window remembers what it was when the run began.
 *
 * A window's time is the log's: events count from when they got their
 * position.  An event that got its position when the window's time was up
 * belongs to the next one, no matter how late the dispatcher is.  So what is
 * emitted does not depend on that, and a replay emits the same.
 *
 * Must not know progress, retry, nor who looks at the clock.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/json.h"
#include "catalog/names.h"
#include "delivery/aggregate.h"
#include "delivery/completion.h"
#include "delivery/function.h"
#include "emit/append.h"

/* A key's window, as the batch has left it so far. */
typedef struct Kept
{
	ObxWindow	window;
	bool		changed;
} Kept;

typedef struct KeyGroup
{
	Kept		now;
	Kept		before;			/* when the run began that touched it last */
	int64		run;
	bool		stored_open;	/* the table has an open window */
} KeyGroup;

typedef struct GroupEntry
{
	text	   *key;			/* NULL for events without one */
	KeyGroup   *group;
	uint32		hash;
	char		status;
} GroupEntry;

static uint32
hash_key(const text *key)
{
	if (key == NULL)
		return 0;
	return hash_bytes((const unsigned char *) VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
}

static bool
is_same_key(const text *one, const text *other)
{
	if (one == NULL || other == NULL)
		return one == other;
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(other) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(one)) == 0;
}

#define SH_PREFIX groups
#define SH_ELEMENT_TYPE GroupEntry
#define SH_KEY_TYPE text *
#define SH_KEY key
#define SH_HASH_KEY(table, key) hash_key(key)
#define SH_EQUAL(table, one, other) is_same_key(one, other)
#define SH_SCOPE static inline
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

typedef struct AggregateTarget
{
	ObxTarget	target;
	FmgrInfo	reducer;
	ObxCompletion *until;		/* NULL for none */
	MemoryContext memory;		/* of the groups; lives as long as the batch */
	MemoryContext call_memory;	/* reset after each call */
	groups_hash *groups;
	int64		run;			/* number of the run under way */
	Datum		type;			/* of emitted events, as is the source */
	Datum		source;
	Jsonb	   *null_state;		/* what is emitted for a state of NULL */
} AggregateTarget;

/* ---- groups ---- */

static KeyGroup *
load_group(AggregateTarget *target, text *key)
{
	MemoryContext old = MemoryContextSwitchTo(target->memory);
	KeyGroup   *group = palloc0(sizeof(KeyGroup));
	GroupEntry *entry;
	bool		found;

	if (key != NULL)
		key = DatumGetTextPCopy(PointerGetDatum(key));
	obx_window_find(target->target.subscription->id, key, &group->now.window);
	group->stored_open = group->now.window.open;
	group->run = -1;
	entry = groups_insert(target->groups, key, &found);
	entry->group = group;
	MemoryContextSwitchTo(old);
	return group;
}

/* The key's group, which the run under way is about to change. */
static KeyGroup *
touch_group(AggregateTarget *target, text *key)
{
	GroupEntry *entry = groups_lookup(target->groups, key);
	KeyGroup   *group = entry != NULL ? entry->group : load_group(target, key);

	if (group->run != target->run)
	{
		group->before = group->now;
		group->run = target->run;
	}
	group->now.changed = true;
	return group;
}

static void
set_state(KeyGroup *group, Jsonb *state)
{
	Jsonb	   *former = group->now.window.state;

	if (former != NULL && former != group->before.window.state)
		pfree(former);
	group->now.window.state = state;
}

/* Ids beyond the array's end are not the former window's: it may come back. */
static void
add_cause(AggregateTarget *target, KeyGroup *group, int64 id)
{
	ObxWindow  *window = &group->now.window;

	if (window->ncauses == OBX_WINDOW_CAUSES)
		return;
	/* full at every power of two, and not known to be larger */
	if ((window->ncauses & (window->ncauses - 1)) == 0 ||
		window->causes == group->before.window.causes)
	{
		int			room = window->ncauses == 0 ? 1 : window->ncauses;
		int64	   *causes;

		while (room <= window->ncauses)
			room *= 2;
		causes = MemoryContextAlloc(target->memory, room * sizeof(int64));
		if (window->ncauses > 0)
			memcpy(causes, window->causes, window->ncauses * sizeof(int64));
		if (window->causes != NULL && window->causes != group->before.window.causes)
			pfree(window->causes);
		window->causes = causes;
	}
	window->causes[window->ncauses++] = id;
}

static void
end_run(ObxTarget *base, bool undone)
{
	AggregateTarget *target = (AggregateTarget *) base;
	groups_iterator iterator;
	GroupEntry *entry;

	if (undone)
	{
		groups_start_iterate(target->groups, &iterator);
		while ((entry = groups_iterate(target->groups, &iterator)) != NULL)
			if (entry->group->run == target->run)
				entry->group->now = entry->group->before;
		if (target->until != NULL)
			obx_completion_reset(target->until);
	}
	target->run++;
}

/* A window that came and went within the batch leaves nothing. */
static TimestampTz
save_groups(ObxTarget *base, int64 version)
{
	AggregateTarget *target = (AggregateTarget *) base;
	TimestampTz earliest = DT_NOEND;
	ObxInserter inserter;
	groups_iterator iterator;
	GroupEntry *entry;

	if (target->groups->members == 0)
		return 0;
	obx_inserter_begin(&inserter, obx_object_require(OBX_WINDOW));
	groups_start_iterate(target->groups, &iterator);
	while ((entry = groups_iterate(target->groups, &iterator)) != NULL)
	{
		KeyGroup   *group = entry->group;
		ObxWindow  *window = &group->now.window;

		if (!group->now.changed)
			continue;
		if (window->open)
			earliest = Min(earliest, window->due);
		if (!window->open && !group->stored_open)
			continue;
		window->version = version;
		obx_window_write(&inserter, window);
	}
	obx_inserter_end(&inserter);
	return earliest == DT_NOEND ? 0 : earliest;
}

/* ---- windows ---- */

TimestampTz
obx_aggregate_due(const ObxSubscription *subscription, const ObxWindow *window)
{
	TimestampTz due = DT_NOEND;

	if (subscription->quiet > 0)
		due = window->latest + subscription->quiet;
	if (subscription->period > 0)
		due = Min(due, window->since + subscription->period);
	return due;
}

static text *
get_text(AggregateTarget *target, const ObxTargetEvent *event, ObxEventColumn column)
{
	bool		isnull;
	Datum		value = heap_getattr(event->tuple, column + 1, target->target.tupdesc, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

/* The trace that the event belongs to; NULL for none. */
static text *
get_traceparent(Jsonb *headers)
{
	char	   *traceparent = NULL;

	if (headers != NULL && JB_ROOT_COUNT(headers) > 0)
		traceparent = obx_json_find_string(headers, "traceparent");
	return traceparent == NULL ? NULL : cstring_to_text(traceparent);
}

static void
open_window(AggregateTarget *target, KeyGroup *group, const ObxTargetEvent *event,
			const ObxContext *context)
{
	ObxWindow  *window = &group->now.window;
	MemoryContext old = MemoryContextSwitchTo(target->memory);

	window->open = true;
	window->events = 0;
	window->since = window->latest = event->positioned_at;
	window->correlation_id = context->correlation_id == NULL ? NULL :
		cstring_to_text(context->correlation_id);
	window->traceparent = get_traceparent(context->headers);
	set_state(group, NULL);
	window->ncauses = 0;
	window->causes = NULL;
	MemoryContextSwitchTo(old);
}

/* ---- emitting ---- */

static Jsonb *
make_headers(const ObxWindow *window)
{
	ObxJsonState state = {0};

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	obx_json_push_key(&state, "causes");
	obx_json_push(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < window->ncauses; i++)
	{
		JsonbValue	value = {
			.type = jbvNumeric,
			.val.numeric = int64_to_numeric(window->causes[i])
		};

		obx_json_push(&state, WJB_ELEM, &value);
	}
	obx_json_push(&state, WJB_END_ARRAY, NULL);
	if (window->traceparent != NULL)
	{
		obx_json_push_key(&state, "traceparent");
		obx_json_push_string(&state, text_to_cstring(window->traceparent));
	}
	return obx_json_finish(&state, WJB_END_OBJECT);
}

/*
 * Emits the window's event as if a handler of the last event did, but with the
 * correlation and the trace of the first; and closes it.
 */
static void
complete_window(AggregateTarget *target, KeyGroup *group)
{
	ObxWindow  *window = &group->now.window;
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
	ObxContext	context = {
		.subscription = target->target.subscription->name,
		.position = window->last_position,
		.attempt = 1,
		.event_id = window->last_event_id,
		.causation_id = window->last_causation_id != 0 ? window->last_causation_id :
		OBX_CAUSE_NONE,
		.correlation_id = window->correlation_id == NULL ? NULL :
		text_to_cstring(window->correlation_id)
	};

	memset(nulls, true, sizeof(nulls));
	values[OBX_EVENT_TYPE] = target->type;
	values[OBX_EVENT_SOURCE] = target->source;
	values[OBX_EVENT_KEY] = PointerGetDatum(window->key);
	values[OBX_EVENT_DATA] = JsonbPGetDatum(window->state != NULL ? window->state :
											target->null_state);
	values[OBX_EVENT_HEADERS] = JsonbPGetDatum(make_headers(window));
	nulls[OBX_EVENT_TYPE] = nulls[OBX_EVENT_SOURCE] = nulls[OBX_EVENT_DATA] =
		nulls[OBX_EVENT_HEADERS] = false;
	nulls[OBX_EVENT_KEY] = (window->key == NULL);

	obx_context_enter(&context);
	(void) obx_event_append(values, nulls);
	obx_context_leave();

	set_state(group, NULL);
	window->open = false;
}

void
obx_aggregate_complete(ObxTarget *base, const ObxWindow *window)
{
	AggregateTarget *target = (AggregateTarget *) base;
	MemoryContext old = MemoryContextSwitchTo(target->call_memory);

	complete_window(target, touch_group(target, window->key));
	MemoryContextSwitchTo(old);
	MemoryContextReset(target->call_memory);
}

void
obx_aggregate_postpone(ObxTarget *base, const ObxWindow *window, TimestampTz due)
{
	touch_group((AggregateTarget *) base, window->key)->now.window.due = due;
}

/* ---- folding ---- */

/* The new state, in the target's memory. */
static Jsonb *
call_reducer(AggregateTarget *target, const KeyGroup *group, const ObxTargetEvent *event)
{
	int			nest_level = NewGUCNestLevel();
	Datum		result;
	Jsonb	   *state = NULL;

	LOCAL_FCINFO(fcinfo, 2);

	/* it sees what is committed now, and what the batch did so far */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	InitFunctionCallInfoData(*fcinfo, &target->reducer, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(group->now.window.state);
	fcinfo->args[0].isnull = (group->now.window.state == NULL);
	fcinfo->args[1].value = heap_copy_tuple_as_datum(event->tuple, target->target.tupdesc);
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	if (!fcinfo->isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(target->memory);

		state = DatumGetJsonbPCopy(result);
		MemoryContextSwitchTo(old);
	}
	PopActiveSnapshot();
	/* what it deferred still belongs to it; settings do not outlive it */
	AfterTriggerFireDeferred();
	AtEOXact_GUC(false, nest_level);
	return state;
}

static bool
is_complete(AggregateTarget *target, const ObxWindow *window)
{
	const ObxSubscription *subscription = target->target.subscription;

	return (subscription->max_events > 0 && window->events >= subscription->max_events) ||
		(target->until != NULL && obx_completion_holds(target->until, window->state));
}

static void
fold_event(AggregateTarget *target, KeyGroup *group, const ObxTargetEvent *event)
{
	ObxWindow  *window = &group->now.window;
	ObxContext	context;
	bool		complete;

	obx_function_hand_down(&target->target, event, &context);
	if (!window->open)
		open_window(target, group, event, &context);

	obx_context_enter(&context);
	set_state(group, call_reducer(target, group, event));
	window->events++;

	/*
	 * a redriven event is of before; but otherwise time falls where the clock
	 * is set back, and the window must not wait until it is there again
	 */
	if (event->position > window->last_position)
	{
		window->latest = event->positioned_at;
		window->since = Min(window->since, event->positioned_at);
	}
	else
		window->latest = Max(window->latest, event->positioned_at);
	window->due = obx_aggregate_due(target->target.subscription, window);
	window->last_position = event->position;
	window->last_event_id = event->id;
	window->last_causation_id = event->causation_id;
	add_cause(target, group, event->id);
	complete = is_complete(target, window);
	obx_context_leave();

	if (complete)
		complete_window(target, group);
}

static void
deliver_event(ObxTarget *base, const ObxTargetEvent *events, int count)
{
	AggregateTarget *target = (AggregateTarget *) base;
	MemoryContext old = MemoryContextSwitchTo(target->call_memory);
	KeyGroup   *group = touch_group(target, get_text(target, events, OBX_EVENT_KEY));
	ObxWindow  *window = &group->now.window;

	/* by its events: that it was put off makes no difference to the next one */
	if (window->open &&
		obx_aggregate_due(target->target.subscription, window) <= events->positioned_at)
		complete_window(target, group);
	fold_event(target, group, events);
	MemoryContextSwitchTo(old);
	MemoryContextReset(target->call_memory);
}

ObxTarget *
obx_aggregate_open(const ObxSubscription *subscription)
{
	AggregateTarget *target = palloc0(sizeof(AggregateTarget));
	Oid			reducer = obx_function_require(subscription->handler_schema,
											   subscription->handler_name,
											   subscription->handler_argument,
											   subscription->owner);

	obx_target_init(&target->target, subscription);
	target->target.deliver = deliver_event;
	target->target.end_run = end_run;
	target->target.save = save_groups;
	fmgr_info(reducer, &target->reducer);
	target->until = obx_completion_open(subscription);
	target->memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox windows",
										   ALLOCSET_DEFAULT_SIZES);
	target->call_memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox reducer call",
												ALLOCSET_DEFAULT_SIZES);
	target->groups = groups_create(target->memory, 64, NULL);
	target->type = CStringGetTextDatum(subscription->emit_type);
	target->source = CStringGetTextDatum(psprintf("aggregate:%s", subscription->name));
	target->null_state = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("null")));
	return &target->target;
}
