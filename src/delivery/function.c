/*
 * Targets that are SQL functions.
 *
 * The handler is called through fmgr, not through SPI, in the session of the
 * subscription's owner; fmgr checks nothing, so rights and signature are
 * checked here, at subscribe and again for each batch.
 *
 * Must not know what is done about an error.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "parser/parse_func.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "delivery/event_json.h"
#include "delivery/function.h"
#include "emit/context.h"

typedef struct FunctionTarget
{
	ObxTarget	target;
	ObxArgument argument;
	FmgrInfo	function;
	MemoryContext call_memory;	/* reset after each call */
	Oid			array_type;		/* of event[] */
} FunctionTarget;

/* ---- the function ---- */

/* The types of its arguments; returns how many. */
static int
argument_types(ObxArgument argument, Oid *types)
{
	switch (argument)
	{
		case OBX_ARGUMENT_EVENT:
			types[0] = obx_event_type_require();
			return 1;
		case OBX_ARGUMENT_EVENT_ARRAY:
			types[0] = obx_event_array_type_require();
			return 1;
		case OBX_ARGUMENT_JSONB:
			types[0] = JSONBOID;
			return 1;
		case OBX_ARGUMENT_REDUCER:
			types[0] = JSONBOID;
			types[1] = obx_event_type_require();
			return 2;
		case OBX_ARGUMENT_NONE:
			break;
	}
	elog(ERROR, "handler without an argument");
	return 0;					/* keep the compiler quiet */
}

static char *
format_signature(const char *schema, const char *name, const Oid *types, int ntypes)
{
	StringInfoData signature;

	initStringInfo(&signature);
	appendStringInfo(&signature, "function %s(", quote_qualified_identifier(schema, name));
	for (int i = 0; i < ntypes; i++)
		appendStringInfo(&signature, "%s%s", i > 0 ? ", " : "", format_type_be(types[i]));
	appendStringInfoChar(&signature, ')');
	return signature.data;
}

static bool
is_handler(Form_pg_proc form)
{
	/* void is the one pseudo-type that a handler may return */
	return form->prokind == PROKIND_FUNCTION && !form->proretset &&
		(form->prorettype == VOIDOID || get_typtype(form->prorettype) != TYPTYPE_PSEUDO);
}

/* A strict one would never get to see an event: the first state is NULL. */
static bool
is_reducer(Form_pg_proc form)
{
	return form->prokind == PROKIND_FUNCTION && !form->proretset &&
		form->prorettype == JSONBOID && !form->proisstrict;
}

static void
check_function(Oid function, ObxArgument argument, const char *signature)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	if (argument == OBX_ARGUMENT_REDUCER && !is_reducer(form))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s cannot be a reducer", signature),
				 errdetail("A reducer is a plain function that returns jsonb and is not strict."),
				 errhint("It is called with the state, which is null at first, and an event.")));
	if (argument != OBX_ARGUMENT_REDUCER && !is_handler(form))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s cannot be a handler", signature),
				 errdetail("A handler is a plain function that returns void or one value."),
				 errhint("Wrap it in a function that returns void.")));
	ReleaseSysCache(tuple);
}

Oid
obx_function_require(const char *schema, const char *name, ObxArgument argument, Oid owner)
{
	Oid			types[2];
	int			ntypes = argument_types(argument, types);
	Oid			namespace = get_namespace_oid(schema, true);
	const char *signature = format_signature(schema, name, types, ntypes);
	const char *role = argument == OBX_ARGUMENT_REDUCER ? "reducer" : "handler";
	Oid			function = InvalidOid;

	if (OidIsValid(namespace))
	{
		oidvector  *vector = buildoidvector(types, ntypes);

		function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
								   CStringGetDatum(name), PointerGetDatum(vector),
								   ObjectIdGetDatum(namespace));
	}
	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("%s does not exist", signature),
				 errdetail("It was there when the subscription was made or altered."),
				 errhint("Create it, or name another %s with outbox.alter_subscription().", role)));
	check_function(function, argument, signature);

	if (obx_object_aclcheck(NamespaceRelationId, namespace, owner, ACL_USAGE) != ACLCHECK_OK ||
		obx_object_aclcheck(ProcedureRelationId, function, owner, ACL_EXECUTE) != ACLCHECK_OK)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" may not execute %s", GetUserNameFromId(owner, true),
						signature),
				 errdetail("A %s runs with the rights of the subscription's owner.", role),
				 errhint("Grant EXECUTE on the function and USAGE on its schema to the role.")));
	return function;
}

/* ---- its argument ---- */

static Datum
make_composite(FunctionTarget *target, HeapTuple tuple)
{
	return HeapTupleHasExternal(tuple) ?
		heap_copy_tuple_as_datum(tuple, target->target.tupdesc) : PointerGetDatum(tuple->t_data);
}

static Datum
make_array(FunctionTarget *target, const ObxTargetEvent *events, int count)
{
	Datum	   *elements = palloc(count * sizeof(Datum));

	for (int i = 0; i < count; i++)
		elements[i] = make_composite(target, events[i].tuple);
	return PointerGetDatum(construct_array(elements, count, target->target.tupdesc->tdtypeid,
										   -1, false, TYPALIGN_DOUBLE));
}

static Datum
make_argument(FunctionTarget *target, const ObxTargetEvent *events, int count)
{
	switch (target->argument)
	{
		case OBX_ARGUMENT_EVENT:
			return make_composite(target, events->tuple);
		case OBX_ARGUMENT_EVENT_ARRAY:
			return make_array(target, events, count);
		case OBX_ARGUMENT_JSONB:
			return JsonbPGetDatum(obx_event_json_make(target->target.tupdesc, events->tuple,
													  events->position));
		case OBX_ARGUMENT_REDUCER:
		case OBX_ARGUMENT_NONE:
			break;
	}
	elog(ERROR, "handler without an argument");
	return (Datum) 0;			/* keep the compiler quiet */
}

/* ---- the call ---- */

void
obx_function_hand_down(const ObxTarget *target, const ObxTargetEvent *event, ObxContext *context)
{
	memset(context, 0, sizeof(ObxContext));
	context->subscription = target->subscription->name;
	context->position = event->position;
	context->attempt = event->attempt;
	context->is_replay = event->is_replay;
	if (target->takes_batch)
		return;

	context->event_id = event->id;
	context->causation_id = event->causation_id != 0 ? event->causation_id : OBX_CAUSE_NONE;
	if (event->correlation_id != NULL)
		context->correlation_id = text_to_cstring(event->correlation_id);
	if (event->headers != NULL)
		context->headers = DatumGetJsonbP(PointerGetDatum(event->headers));
}

static void
call_function(ObxTarget *base, const ObxTargetEvent *events, int count)
{
	FunctionTarget *target = (FunctionTarget *) base;
	MemoryContext old = MemoryContextSwitchTo(target->call_memory);
	ObxContext	context;

	LOCAL_FCINFO(fcinfo, 1);

	obx_function_hand_down(base, &events[count - 1], &context);
	obx_context_enter(&context);

	/* the handler sees what is committed now, and what the batch did so far */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());

	InitFunctionCallInfoData(*fcinfo, &target->function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = make_argument(target, events, count);
	fcinfo->args[0].isnull = false;
	(void) FunctionCallInvoke(fcinfo);

	PopActiveSnapshot();
	/* what it deferred still belongs to it: events emitted there inherit too */
	AfterTriggerFireDeferred();
	obx_context_leave();
	MemoryContextSwitchTo(old);
	MemoryContextReset(target->call_memory);
}

ObxTarget *
obx_function_open(const ObxSubscription *subscription)
{
	FunctionTarget *target = palloc0(sizeof(FunctionTarget));
	Oid			function = obx_function_require(subscription->handler_schema,
												subscription->handler_name,
												subscription->handler_argument,
												subscription->owner);

	obx_target_init(&target->target, subscription);
	target->target.takes_batch = subscription->handler_argument == OBX_ARGUMENT_EVENT_ARRAY;
	target->target.deliver = call_function;
	target->argument = subscription->handler_argument;
	fmgr_info(function, &target->function);
	target->call_memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox handler call",
												ALLOCSET_DEFAULT_SIZES);
	return &target->target;
}
