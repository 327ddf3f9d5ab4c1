/*
 * Finds the function of a handler or a reducer by the text that a user gives:
 * a name, or a name with argument types.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/error.h"
#include "catalog/names.h"
#include "delivery/function.h"
#include "delivery/target.h"
#include "sqlapi/handler.h"

/* Detail and hint for a text that names no such function. */
#define WHAT_IS_A_HANDLER "A handler takes one argument: outbox.event, outbox.event[] or jsonb."
#define WHAT_IS_A_REDUCER "A reducer takes two arguments, jsonb and outbox.event, and returns jsonb."
#define CHECK_HANDLER "Check the name, the schema (or search_path) and the argument's type."
#define CHECK_REDUCER "Check the name, the schema (or search_path) and the arguments' types."

/* The argument kinds, as types, in the order in which they are tried. */
static Oid
kind_type(ObxArgument argument)
{
	switch (argument)
	{
		case OBX_ARGUMENT_EVENT:
			return obx_event_type_require();
		case OBX_ARGUMENT_EVENT_ARRAY:
			return obx_event_array_type_require();
		default:
			return JSONBOID;
	}
}

/* At most so many functions are named in an error. */
#define MAX_CANDIDATES 5

static int
compare_texts(const ListCell *a, const ListCell *b)
{
	return strcmp(lfirst(a), lfirst(b));
}

/* Appends the signatures of all functions with this name, in any schema. */
static List *
add_functions(List *signatures, const char *name)
{
	CatCList   *list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));

	for (int i = 0; i < list->n_members; i++)
	{
		Form_pg_proc function = (Form_pg_proc) GETSTRUCT(&list->members[i]->tuple);

		if (function->prokind == PROKIND_FUNCTION)
			signatures = lappend(signatures, format_procedure(function->oid));
	}
	ReleaseSysCacheList(list);
	return signatures;
}

/*
 * The functions that a user may have meant: those of the name as SQL reads it,
 * and those of the name as it was written, with its capital letters.  NULL if
 * there are none.  "folded": do the two differ?
 */
static char *
find_candidates(const char *given, bool *folded)
{
	const char *paren = strchr(given, '(');
	char	   *written = paren != NULL ? pnstrdup(given, paren - given) : pstrdup(given);
	char	   *read = strVal(llast(obx_name_list(written)));
	char	   *dot = strrchr(written, '.');
	List	   *signatures = add_functions(NIL, read);
	StringInfoData text;
	ListCell   *lc;

	if (dot != NULL)
		written = dot + 1;
	*folded = strcmp(written, read) != 0;
	if (*folded)
		signatures = add_functions(signatures, written);
	if (signatures == NIL)
		return NULL;

	list_sort(signatures, compare_texts);
	initStringInfo(&text);
	foreach(lc, signatures)
	{
		if (foreach_current_index(lc) == MAX_CANDIDATES)
		{
			appendStringInfoString(&text, ", ...");
			break;
		}
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", (char *) lfirst(lc));
	}
	return text.data;
}

/* No function fits: names those with the name, if there are any. */
static void
report_none(const char *given, const char *role, const char *what, const char *check)
{
	bool		folded;
	char	   *candidates = find_candidates(given, &folded);

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_FUNCTION),
			 errmsg("no function \"%s\" can be a %s", given, role),
			 candidates != NULL ?
			 errdetail("These functions have that name: %s.", candidates) :
			 errdetail("%s", what),
			 candidates != NULL ?
			 errhint("%s%s", what,
					 folded ? "  A name with capital letters needs double quotes." : "") :
			 errhint("%s", check)));
}

/* By name alone: one of the three signatures, and only one. */
static Oid
find_by_name(const char *handler, ObxArgument *argument)
{
	List	   *name = obx_name_list(handler);
	Oid			found = InvalidOid;

	for (ObxArgument kind = OBX_ARGUMENT_EVENT; kind <= OBX_ARGUMENT_JSONB; kind++)
	{
		Oid			type = kind_type(kind);
		Oid			function = LookupFuncName(name, 1, &type, true);

		if (!OidIsValid(function))
			continue;
		if (OidIsValid(found))
			ereport(ERROR,
					(errcode(ERRCODE_AMBIGUOUS_FUNCTION),
					 errmsg("handler \"%s\" is not unique", handler),
					 errdetail("Several functions of that name could be meant."),
					 errhint("Name the argument's type too, as in \"%s(%s)\".", handler,
							 format_type_be(kind_type(*argument)))));
		found = function;
		*argument = kind;
	}
	if (!OidIsValid(found))
		report_none(handler, "handler", WHAT_IS_A_HANDLER, CHECK_HANDLER);
	return found;
}

/* By name and argument type. */
static Oid
find_by_signature(const char *handler, ObxArgument *argument)
{
	Oid			function = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
																CStringGetDatum(handler)));
	Oid		   *types;
	int			ntypes;

	(void) get_func_signature(function, &types, &ntypes);
	for (ObxArgument kind = OBX_ARGUMENT_EVENT; kind <= OBX_ARGUMENT_JSONB; kind++)
		if (ntypes == 1 && types[0] == kind_type(kind))
		{
			*argument = kind;
			return function;
		}
	report_none(handler, "handler", WHAT_IS_A_HANDLER, CHECK_HANDLER);
	return InvalidOid;			/* keep the compiler quiet */
}

static void
set_function(Oid function, const char *handler, const char *role, ObxSubscription *subscription)
{
	/* the schema's name is anyone's who gets that backend's number next */
	if (isAnyTempNamespace(get_func_namespace(function)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s \"%s\" is temporary", role, handler),
				 errdetail("A subscription outlives the session."),
				 errhint("Create the function in a schema that stays.")));

	subscription->handler_schema = get_namespace_name(get_func_namespace(function));
	subscription->handler_name = get_func_name(function);
	(void) obx_function_require(subscription->handler_schema, subscription->handler_name,
								subscription->handler_argument, subscription->owner);
}

static void
resolve_handler(const char *handler, ObxSubscription *subscription)
{
	Oid			function;

	if (strchr(handler, '(') != NULL)
		function = find_by_signature(handler, &subscription->handler_argument);
	else
		function = find_by_name(handler, &subscription->handler_argument);
	set_function(function, handler, "handler", subscription);
}

static void
resolve_reducer(const char *reducer, ObxSubscription *subscription)
{
	Oid			types[2] = {JSONBOID, obx_event_type_require()};
	Oid			function;

	if (strchr(reducer, '(') != NULL)
	{
		Oid		   *found;
		int			nfound;

		function = DatumGetObjectId(DirectFunctionCall1(regprocedurein,
														CStringGetDatum(reducer)));
		(void) get_func_signature(function, &found, &nfound);
		if (nfound != 2 || found[0] != types[0] || found[1] != types[1])
			function = InvalidOid;
	}
	else
		function = LookupFuncName(obx_name_list(reducer), 2, types, true);
	if (!OidIsValid(function))
		report_none(reducer, "reducer", WHAT_IS_A_REDUCER, CHECK_REDUCER);
	subscription->handler_argument = OBX_ARGUMENT_REDUCER;
	set_function(function, reducer, "reducer", subscription);
}

typedef void (*Resolve) (const char *name, ObxSubscription *subscription);

/* Adds detail and hint to PostgreSQL's errors about the name, which have none. */
static void
resolve(Resolve function, const char *name, ObxSubscription *subscription,
		const char *detail, const char *hint)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		function(name, subscription);
	}
	PG_CATCH();
	{
		obx_error_advise(context, detail, hint);
	}
	PG_END_TRY();
}

void
obx_handler_resolve(const char *handler, ObxSubscription *subscription)
{
	resolve(resolve_handler, handler, subscription, WHAT_IS_A_HANDLER, CHECK_HANDLER);
}

void
obx_handler_resolve_reducer(const char *reducer, ObxSubscription *subscription)
{
	resolve(resolve_reducer, reducer, subscription, WHAT_IS_A_REDUCER, CHECK_REDUCER);
}
