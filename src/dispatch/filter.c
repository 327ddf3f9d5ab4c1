/*
 * A subscription's filter.
 *
 * It is analysed again for each batch, so a change of the functions and types
 * that it names takes effect at once.  A filter that cannot be analysed any
 * more makes the subscription broken, like a missing handler.  An error in
 * planning or evaluation makes the event fail, like an error of a handler; so
 * the filter is planned within the first call.
 *
 * It is evaluated as a compiled expression in the session of the owner: the
 * executor checks the owner's rights on the functions.
 *
 * Must not know the consequences for an event.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "utils/snapmgr.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/expression.h"
#include "base/guard.h"
#include "base/identity.h"
#include "base/plain.h"
#include "delivery/call.h"
#include "dispatch/filter.h"
#include "dispatch/session.h"
#include "emit/context.h"
#include "log/event.h"

struct ObxFilter
{
	const ObxSubscription *subscription;
	Node	   *expression;		/* analysed */
	Expr	   *planned;		/* of it, with "state" */
	MemoryContext memory;		/* holds what follows, and the expression */
	ExprState  *state;			/* NULL: not planned yet */
	ExprContext *context;
	TupleTableSlot *slot;
};

/* ---- analysis ---- */

static void
report_filter(void *arg)
{
	const ObxSubscription *subscription = arg;

	obx_expression_point(subscription->filter);
	errcontext("filter of subscription \"%s\"", subscription->name);
}

static Node *
analyze_filter(const ObxSubscription *subscription)
{
	static const ObxExpressionKind kind = {
		.name = "filter",
		.subject = "a filter",
		.sentence = "A filter",
		.runs_as = "the subscription's owner",
		.over = "the columns of outbox.event",
		.example = "(data->>'amount')::numeric > 100"
	};

	return obx_event_analyze(subscription->filter, &kind, subscription->owner);
}

static Node *
analyze_with_context(const ObxSubscription *subscription)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_filter,
		.arg = unconstify(ObxSubscription *, subscription)
	};
	Node	   *expression;

	error_context_stack = &callback;
	expression = analyze_filter(subscription);
	error_context_stack = callback.previous;
	return expression;
}

static void
check_filter(const ObxSubscription *subscription)
{
	(void) analyze_with_context(subscription);
}

void
obx_filter_check(const ObxSubscription *subscription)
{
	obx_session_check_as_owner(subscription, check_filter);
}

ObxFilter *
obx_filter_open(const ObxSubscription *subscription, TupleDesc tupdesc)
{
	ObxFilter  *filter;
	MemoryContext old;

	if (subscription->filter == NULL)
		return NULL;
	filter = palloc0(sizeof(ObxFilter));
	filter->subscription = subscription;
	filter->memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox filter",
										   ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(filter->memory);
	filter->expression = analyze_with_context(subscription);
	filter->slot = MakeSingleTupleTableSlot(tupdesc, &TTSOpsHeapTuple);
	MemoryContextSwitchTo(old);
	return filter;
}

/* ---- evaluation ---- */

static void
plan_filter(ObxFilter *filter)
{
	MemoryContext old = MemoryContextSwitchTo(filter->memory);

	filter->planned = expression_planner((Expr *) copyObject(filter->expression));
	filter->context = CreateStandaloneExprContext();
	filter->state = ExecInitExpr(filter->planned, NULL);
	MemoryContextSwitchTo(old);
}

static bool
evaluate(ObxFilter *filter, HeapTuple tuple)
{
	Datum		value;
	bool		isnull;

	if (filter->state == NULL)
		plan_filter(filter);
	ResetExprContext(filter->context);
	ExecStoreHeapTuple(tuple, filter->slot, false);
	filter->context->ecxt_scantuple = filter->slot;
	value = ExecEvalExprSwitchContext(filter->state, filter->context, &isnull);
	return !isnull && DatumGetBool(value);
}

bool
obx_filter_passes(ObxFilter *filter, const ObxTargetEvent *event)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_filter,
		.arg = unconstify(ObxSubscription *, filter->subscription)
	};
	ObxContext	context = {
		.subscription = filter->subscription->name,
		.position = event->position,
		.attempt = event->attempt,
		.is_replay = event->is_replay
	};

	/* a handler may be receiving: what it is in stays its own */
	bool		is_nested = obx_context_current() != NULL;
	ObxCall		call;
	bool		passes;

	error_context_stack = &callback;
	obx_call_begin(&call, filter->subscription, obx_clock_now());
	if (!is_nested)
		obx_context_enter(&context);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	passes = evaluate(filter, event->tuple);
	PopActiveSnapshot();
	if (!is_nested)
		obx_context_leave();
	obx_call_end(&call);
	error_context_stack = callback.previous;
	return passes;
}

void
obx_filter_reset(ObxFilter *filter)
{
	filter->state = NULL;
	ExecClearTuple(filter->slot);
}

/* ---- only to know ---- */

typedef struct Question
{
	const ObxSubscription *subscription;
	TupleDesc	tupdesc;
	ObxFilter  *filter;
	HeapTuple	event;
	bool		passes;
} Question;

static void
open_plain(void *arg)
{
	Question   *question = arg;
	ObxIdentity former;
	ObxFilter  *filter;

	obx_identity_assume_path(&former, question->subscription->owner,
							 question->subscription->search_path);
	filter = obx_filter_open(question->subscription, question->tupdesc);
	if (obx_expression_is_plain(filter->expression, false))
	{
		plan_filter(filter);
		if (obx_expression_is_plain((Node *) filter->planned, true))
			question->filter = filter;
	}
	obx_identity_restore(&former);
}

ObxFilter *
obx_filter_open_plain(const ObxSubscription *subscription, TupleDesc tupdesc)
{
	Question	question = {.subscription = subscription,.tupdesc = tupdesc};

	(void) obx_guard_call(open_plain, &question, CurrentMemoryContext);
	return question.filter;
}

static void
ask(void *arg)
{
	Question   *question = arg;
	const ObxSubscription *subscription = question->filter->subscription;
	ObxIdentity former;

	obx_identity_assume_path(&former, subscription->owner, subscription->search_path);
	question->passes = evaluate(question->filter, question->event);
	obx_identity_restore(&former);
	ExecClearTuple(question->filter->slot);
}

int
obx_filter_ask(ObxFilter *filter, HeapTuple event)
{
	Question	question = {.filter = filter,.event = event};

	if (obx_guard_call(ask, &question, CurrentMemoryContext) != NULL)
	{
		obx_filter_reset(filter);
		return -1;
	}
	return question.passes ? 1 : 0;
}
