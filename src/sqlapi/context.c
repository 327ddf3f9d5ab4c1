/*
 * Functions by which a handler learns about its current call.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "emit/context.h"

PG_FUNCTION_INFO_V1(obx_sql_current_position);
PG_FUNCTION_INFO_V1(obx_sql_current_attempt);
PG_FUNCTION_INFO_V1(obx_sql_current_subscription);
PG_FUNCTION_INFO_V1(obx_sql_is_replay);

Datum
obx_sql_current_position(PG_FUNCTION_ARGS)
{
	const ObxContext *context = obx_context_current();

	if (context == NULL)
		PG_RETURN_NULL();
	PG_RETURN_INT64(context->position);
}

Datum
obx_sql_current_attempt(PG_FUNCTION_ARGS)
{
	const ObxContext *context = obx_context_current();

	if (context == NULL)
		PG_RETURN_NULL();
	PG_RETURN_INT32(context->attempt);
}

Datum
obx_sql_current_subscription(PG_FUNCTION_ARGS)
{
	const ObxContext *context = obx_context_current();

	if (context == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(context->subscription));
}

Datum
obx_sql_is_replay(PG_FUNCTION_ARGS)
{
	const ObxContext *context = obx_context_current();

	if (context == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(context->is_replay);
}
