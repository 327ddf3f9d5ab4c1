/*
 * Checking the arguments of SQL functions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "catalog/names.h"
#include "dispatch/lane.h"
#include "emit/context.h"
#include "sqlapi/argument.h"

/* Bytes of an expression, which every process that asks it compiles. */
#define OBX_MAX_EXPRESSION 100000

/* The default that the function declares for the argument, NULL for none. */
static Const *
find_default(FunctionCallInfo fcinfo, int number)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	Form_pg_proc function;
	Datum		defaults;
	bool		isnull;
	int			nth;
	Node	   *expression = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	function = (Form_pg_proc) GETSTRUCT(tuple);
	nth = number - (function->pronargs - function->pronargdefaults);
	defaults = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proargdefaults, &isnull);
	if (!isnull && nth >= 0)
	{
		List	   *list = castNode(List, stringToNode(TextDatumGetCString(defaults)));

		if (nth < list_length(list))
			expression = eval_const_expressions(NULL, list_nth(list, nth));
	}
	ReleaseSysCache(tuple);
	return expression != NULL && IsA(expression, Const) ? (Const *) expression : NULL;
}

/* Wrappers pass SQL NULL for what they were not given. */
void
obx_argument_require(FunctionCallInfo fcinfo, int number, const char *name)
{
	Const	   *value = PG_ARGISNULL(number) ? find_default(fcinfo, number) : NULL;

	if (value != NULL && !value->constisnull)
	{
		fcinfo->args[number].value = value->constvalue;
		fcinfo->args[number].isnull = false;
	}
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name),
				 errhint("Give a value, or leave the argument out if it has a default.")));
}

char *
obx_argument_text(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

char *
obx_argument_expression(FunctionCallInfo fcinfo, int number, const char *name)
{
	char	   *expression = obx_argument_text(fcinfo, number);

	if (expression != NULL && strlen(expression) > OBX_MAX_EXPRESSION)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument \"%s\" is too long", name),
				 errdetail("It has %zu bytes, the limit is %d.", strlen(expression),
						   OBX_MAX_EXPRESSION),
				 errhint("Call a function in it.")));
	return expression;
}

char *
obx_argument_require_text(FunctionCallInfo fcinfo, int number, const char *name)
{
	obx_argument_require(fcinfo, number, name);
	return obx_argument_text(fcinfo, number);
}

int
obx_argument_require_word(FunctionCallInfo fcinfo, int number, const char *name,
						  const char *const *words, int nwords)
{
	char	   *value = obx_argument_require_text(fcinfo, number, name);
	StringInfoData list;

	for (int i = 0; i < nwords; i++)
		if (strcmp(value, words[i]) == 0)
			return i;

	initStringInfo(&list);
	for (int i = 0; i < nwords; i++)
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "", words[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for argument \"%s\": \"%s\"", name, value),
			 errdetail("Valid values are %s.", list.data)));
	return 0;					/* keep the compiler quiet */
}

int64
obx_argument_require_number(FunctionCallInfo fcinfo, int number, const char *name,
							bool is_bigint, int64 min, int64 max)
{
	int64		value;

	obx_argument_require(fcinfo, number, name);
	value = is_bigint ? PG_GETARG_INT64(number) : PG_GETARG_INT32(number);
	if (value < min || value > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is out of range: " INT64_FORMAT, name, value),
				 errdetail("It must be between " INT64_FORMAT " and " INT64_FORMAT ".",
						   min, max)));
	return value;
}

/* Of a list of patterns, which every process keeps, and of one in it, in bytes. */
#define OBX_MAX_PATTERNS 1000
#define OBX_MAX_PATTERN 1000

char	  **
obx_argument_require_patterns(FunctionCallInfo fcinfo, int number, const char *name, int *count)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	char	  **patterns;

	obx_argument_require(fcinfo, number, name);
	array = PG_GETARG_ARRAYTYPE_P(number);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, count);
	if (*count == 0 || ARR_NDIM(array) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be a list of at least one pattern", name),
				 *count == 0 ? errdetail("The list is empty.") :
				 errdetail("It is an array of %d dimensions.", ARR_NDIM(array)),
				 errhint("The pattern \"*\" matches every type.")));

	if (*count > OBX_MAX_PATTERNS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument \"%s\" has too many patterns", name),
				 errdetail("It has %d, the limit is %d.", *count, OBX_MAX_PATTERNS),
				 errhint("Use a pattern that matches more types, like \"order.*\".")));

	patterns = palloc(*count * sizeof(char *));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("argument \"%s\" must not contain nulls", name),
					 errdetail("Element %d is null.", i + 1),
					 errhint("The pattern \"*\" matches every type.")));
		if (VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i])) > OBX_MAX_PATTERN)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("argument \"%s\" has a pattern that is too long", name),
					 errdetail("Element %d has %d bytes, the limit is %d.", i + 1,
							   (int) VARSIZE_ANY_EXHDR(DatumGetPointer(elements[i])),
							   OBX_MAX_PATTERN),
					 errhint("Types of events are shorter.")));
		patterns[i] = TextDatumGetCString(elements[i]);
		if (patterns[i][0] == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s\" must not contain an empty pattern", name),
					 errdetail("No event has an empty type."),
					 errhint("The pattern \"*\" matches every type.")));
	}
	return patterns;
}

int64
obx_argument_require_interval(FunctionCallInfo fcinfo, int number, const char *name)
{
	Interval   *interval;
	int64		microseconds;

	obx_argument_require(fcinfo, number, name);
	interval = PG_GETARG_INTERVAL_P(number);
	/* a thousand years fit in 64 bits; more is no length of time to wait */
	if (interval->month < 0 || interval->month > 12000 || interval->day < 0 ||
		interval->day > 366000 || interval->time < 0 ||
		interval->time > INT64CONST(366000) * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" is out of range", name),
				 errdetail("It must not be negative, nor longer than a thousand years."),
				 errhint("Give an interval such as '30 seconds'.")));
	microseconds = ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY +
		interval->time;
	return microseconds;
}

TimestampTz
obx_argument_parse_time(const char *text, const char *detail, const char *hint)
{
	MemoryContext context = CurrentMemoryContext;
	TimestampTz time = 0;

	PG_TRY();
	{
		time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in, CStringGetDatum(text),
													   ObjectIdGetDatum(InvalidOid),
													   Int32GetDatum(-1)));
	}
	PG_CATCH();
	{
		obx_error_advise(context, detail, hint);
	}
	PG_END_TRY();
	return time;
}

static void
check_membership(const ObxSubscription *subscription)
{
	if (!has_privs_of_role(GetUserId(), subscription->owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be a member of the owner of subscription \"%s\"",
						subscription->name),
				 errdetail("It belongs to role \"%s\".",
						   GetUserNameFromId(subscription->owner, true)),
				 errhint("Run the command as that role, or as a member of it.")));
}

ObxSubscription *
obx_argument_require_subscription(FunctionCallInfo fcinfo)
{
	char	   *name = obx_argument_require_text(fcinfo, 0, "name");
	ObxSubscription *subscription = obx_subscription_require(name);

	check_membership(subscription);
	return subscription;
}

ObxSubscription *
obx_argument_require_pull(const char *name, const char *function)
{
	ObxSubscription *subscription = obx_subscription_require(name);

	check_membership(subscription);
	if (subscription->kind != OBX_KIND_PULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("subscription \"%s\" is not for pulling", subscription->name),
				 errdetail("Its events are delivered to %s %s.",
						   subscription->kind == OBX_KIND_AGGREGATE ? "an" : "a",
						   obx_kind_name(subscription->kind)),
				 errhint("Subscribe with neither a handler nor a channel, or use outbox.read().")));
	PreventCommandIfReadOnly(function);
	return subscription;
}

/* Rights before the lock: strangers must not wait, nor make others wait. */
ObxSubscription *
obx_argument_lock_subscription(FunctionCallInfo fcinfo, const char *name)
{
	ObxSubscription *subscription;

	obx_argument_require(fcinfo, 0, name);
	/* before it is read, as obx_lane_lock_tables() says */
	LockRelationOid(obx_object_require(OBX_SUBSCRIPTION), RowExclusiveLock);
	subscription = obx_argument_require_subscription(fcinfo);
	obx_subscription_lock(subscription->id);

	/*
	 * see what the last holder of the lock has left, also a session that had
	 * not loaded our library
	 */
	(void) obx_subscription_follow_owner(subscription->id, true);
	subscription = obx_subscription_require(subscription->name);
	check_membership(subscription);
	return subscription;
}

void
obx_argument_refuse_inside(const ObxSubscription *subscription, const char *function)
{
	const ObxContext *context = obx_context_current();

	if (context != NULL && strcmp(context->subscription, subscription->name) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot be called in a handler of the same subscription", function),
				 errdetail("It would move what is being delivered."),
				 errhint("Call it in another session.")));
}
