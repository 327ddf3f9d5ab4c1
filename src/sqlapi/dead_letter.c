/*
 * outbox.redrive() and outbox.discard().
 */
#include "postgres.h"

#include "fmgr.h"

#include "base/compat.h"
#include "sqlapi/argument.h"
#include "subscription/dead_letter.h"

PG_FUNCTION_INFO_V1(obx_sql_redrive);
PG_FUNCTION_INFO_V1(obx_sql_discard);

static ObxSubscription *
require_subscription(FunctionCallInfo fcinfo, const char *function)
{
	ObxSubscription *subscription;

	PreventCommandIfReadOnly(function);
	subscription = obx_argument_lock_subscription(fcinfo, "subscription");
	obx_argument_refuse_inside(subscription, function);
	return subscription;
}

/* at_position; 0 stands for all */
static int64
get_position(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		return 0;
	return obx_argument_require_number(fcinfo, 1, "at_position", true, 1, PG_INT64_MAX);
}

/*
 * redrive(subscription, at_position)
 */
Datum
obx_sql_redrive(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_subscription(fcinfo, "outbox.redrive()");

	PG_RETURN_INT64(obx_dead_letter_redrive(subscription, get_position(fcinfo)));
}

/*
 * discard(subscription, at_position)
 */
Datum
obx_sql_discard(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_subscription(fcinfo, "outbox.discard()");

	PG_RETURN_INT64(obx_dead_letter_discard(subscription, get_position(fcinfo)));
}
