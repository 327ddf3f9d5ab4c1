/*
 * outbox.alter_subscription() and outbox.seek().
 */
#include "postgres.h"

#include "fmgr.h"

#include "base/compat.h"
#include "log/generation.h"
#include "sqlapi/alter.h"
#include "sqlapi/argument.h"
#include "sqlapi/options.h"
#include "sqlapi/start.h"
#include "subscription/divide.h"
#include "subscription/lifecycle.h"

PG_FUNCTION_INFO_V1(obx_sql_alter_subscription);
PG_FUNCTION_INFO_V1(obx_sql_seek);

void
obx_alter_apply(const ObxSubscription *old, ObxSubscription *new, const char *function)
{
	if (obx_divide_is_needed(old, new))
		obx_argument_refuse_inside(old, function);
	obx_lifecycle_change(old, new);
}

/*
 * alter_subscription(name, types, handler, channel, filter, ordering,
 * concurrency, batch_size, max_attempts, backoff, max_backoff, timeout,
 * on_exhausted, payload, owner)
 */
Datum
obx_sql_alter_subscription(PG_FUNCTION_ARGS)
{
	ObxSubscription *old;
	ObxSubscription new;

	PreventCommandIfReadOnly("outbox.alter_subscription()");
	old = obx_argument_lock_subscription(fcinfo, "name");
	new = *old;
	obx_options_fill(fcinfo, OBX_OPTIONS_ALTER, &new);
	obx_alter_apply(old, &new, "outbox.alter_subscription()");
	PG_RETURN_VOID();
}

static int64
get_position(FunctionCallInfo fcinfo)
{
	int64		position;

	if (PG_ARGISNULL(1) == PG_ARGISNULL(2))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exactly one of \"to_position\" and \"to_time\" must be given"),
				 errdetail("The one names where to go on, the other when."),
				 errhint("For everything that is kept, seek to outbox.oldest().")));
	if (!PG_ARGISNULL(2))
		return obx_start_at_time(PG_GETARG_TIMESTAMPTZ(2));
	position = PG_GETARG_INT64(1);
	obx_start_check(position, psprintf(INT64_FORMAT, position));
	return position;
}

/*
 * seek(name, to_position, to_time)
 */
Datum
obx_sql_seek(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription;
	ObxDropped	dropped = {0};
	int64		position;

	PreventCommandIfReadOnly("outbox.seek()");
	(void) obx_generation_follow(); /* a copy must notice that it is one first */
	subscription = obx_argument_lock_subscription(fcinfo, "name");
	obx_argument_refuse_inside(subscription, "outbox.seek()");
	obx_lifecycle_pin_retention();
	position = get_position(fcinfo);
	obx_divide_seek(subscription, position, &dropped);
	if (dropped.retries > 0 || dropped.parked > 0)
		ereport(NOTICE,
				(errmsg("dropped " INT64_FORMAT " retries and " INT64_FORMAT
						" parked events of subscription \"%s\"",
						dropped.retries, dropped.parked, subscription->name)));
	if (dropped.windows > 0)
		ereport(NOTICE,
				(errmsg("reset " INT64_FORMAT " open windows of aggregate \"%s\"",
						dropped.windows, subscription->name)));
	PG_RETURN_INT64(position);
}
