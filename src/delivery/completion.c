/*
 * The condition that makes an aggregate's window complete.
 *
 * Like a filter, the condition is analysed anew for each batch, so that
 * changes of the functions it names are noticed, and planned within the first
 * call.  "state" is a parameter of it, the only name it knows.
 *
 * Must not know windows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/params.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/expression.h"
#include "delivery/completion.h"

struct ObxCompletion
{
	const ObxSubscription *subscription;
	Node	   *expression;		/* analysed */
	MemoryContext memory;		/* holds what follows, and the expression */
	ParamListInfo parameters;	/* one: the state */
	ExprState  *state;			/* NULL: not planned yet */
	ExprContext *context;
};

/* ---- analysis ---- */

static void
report_condition(void *arg)
{
	const ObxSubscription *subscription = arg;

	obx_expression_point(subscription->until);
	errcontext("condition \"until\" of subscription \"%s\"", subscription->name);
}

/* PostParseColumnRefHook: "state", unless it is something else already. */
static Node *
find_state(ParseState *pstate, ColumnRef *column, Node *found)
{
	Node	   *name = linitial(column->fields);
	Param	   *state;

	if (found != NULL || list_length(column->fields) != 1 || !IsA(name, String) ||
		strcmp(strVal(name), "state") != 0)
		return NULL;
	state = makeNode(Param);
	state->paramkind = PARAM_EXTERN;
	state->paramid = 1;
	state->paramtype = JSONBOID;
	state->paramtypmod = -1;
	state->location = column->location;
	return (Node *) state;
}

static Node *
analyze_condition(const ObxSubscription *subscription)
{
	static const ObxExpressionKind kind = {
		.name = "condition \"until\"",
		.subject = "the condition \"until\"",
		.sentence = "The condition \"until\"",
		.runs_as = "the subscription's owner",
		.over = "the state",
		.example = "(state->>'count')::integer >= 10"
	};
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_condition,
		.arg = unconstify(ObxSubscription *, subscription)
	};
	ParseState *pstate = make_parsestate(NULL);
	Node	   *expression;

	error_context_stack = &callback;
	pstate->p_post_columnref_hook = find_state;
	expression = obx_expression_analyze(pstate, subscription->until, &kind,
										subscription->owner);
	error_context_stack = callback.previous;
	return expression;
}

void
obx_completion_check(const ObxSubscription *subscription)
{
	(void) analyze_condition(subscription);
}

ObxCompletion *
obx_completion_open(const ObxSubscription *subscription)
{
	ObxCompletion *until;
	MemoryContext old;

	if (subscription->until == NULL)
		return NULL;
	until = palloc0(sizeof(ObxCompletion));
	until->subscription = subscription;
	until->memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox until",
										  ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(until->memory);
	until->expression = analyze_condition(subscription);
	until->parameters = makeParamList(1);
	until->parameters->params[0].ptype = JSONBOID;
	MemoryContextSwitchTo(old);
	return until;
}

/* ---- evaluation ---- */

static void
plan_until(ObxCompletion *until)
{
	MemoryContext old = MemoryContextSwitchTo(until->memory);
	Expr	   *planned = expression_planner((Expr *) copyObject(until->expression));

	until->context = CreateStandaloneExprContext();
	until->context->ecxt_param_list_info = until->parameters;
	until->state = ExecInitExprWithParams(planned, until->parameters);
	MemoryContextSwitchTo(old);
}

bool
obx_completion_holds(ObxCompletion *until, Jsonb *state)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = report_condition,
		.arg = unconstify(ObxSubscription *, until->subscription)
	};
	ParamExternData *parameter = &until->parameters->params[0];
	Datum		value;
	bool		isnull;

	error_context_stack = &callback;
	parameter->isnull = (state == NULL);
	parameter->value = PointerGetDatum(state);
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (until->state == NULL)
		plan_until(until);
	ResetExprContext(until->context);
	value = ExecEvalExprSwitchContext(until->state, until->context, &isnull);
	PopActiveSnapshot();
	error_context_stack = callback.previous;
	return !isnull && DatumGetBool(value);
}

void
obx_completion_reset(ObxCompletion *until)
{
	until->state = NULL;
}
