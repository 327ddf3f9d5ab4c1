/*
 * outbox.aggregate().
 *
 * An aggregate is a subscription with a target of its own; what can be asked
 * of every subscription is asked by alter_subscription().
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "delivery/completion.h"
#include "dispatch/filter.h"
#include "dispatch/session.h"
#include "log/event.h"
#include "sqlapi/argument.h"
#include "sqlapi/handler.h"
#include "sqlapi/options.h"
#include "sqlapi/subscribe.h"

PG_FUNCTION_INFO_V1(obx_sql_aggregate);

/* The arguments' numbers. */
enum
{
	NAME,
	TYPES,
	EMIT_TYPE,
	REDUCER,
	MAX_EVENTS,
	QUIET,
	PERIOD,
	UNTIL,
	FILTER,
	START,
	IF_EXISTS
};

/* What stands before the name in the source of emitted events. */
#define OBX_SOURCE_PREFIX "aggregate:"

/*
 * As subscribe()'s defaults, but for the size of a batch: the more events of a
 * key are in one, the fewer versions of its window are written.
 */
static void
set_defaults(ObxSubscription *subscription)
{
	subscription->kind = OBX_KIND_AGGREGATE;
	subscription->ordering = OBX_ORDERING_KEY;
	subscription->concurrency = 1;
	subscription->batch_size = 10000;
	subscription->max_attempts = 10;
	subscription->backoff = USECS_PER_SEC;
	subscription->max_backoff = USECS_PER_HOUR;
	subscription->timeout = 30 * USECS_PER_SEC;
}

static void
check_name(const char *name)
{
	int			limit = OBX_SOURCE_MAX_LENGTH - (int) strlen(OBX_SOURCE_PREFIX);

	if (strlen(name) > limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("name of an aggregate is too long: \"%s\"", name),
				 errdetail("It is part of the source of its events, and has at most %d bytes.",
						   limit),
				 errhint("Choose a shorter name.")));
}

static int64
get_time(FunctionCallInfo fcinfo, int number, const char *name)
{
	int64		time;

	if (PG_ARGISNULL(number))
		return 0;
	time = obx_argument_require_interval(fcinfo, number, name);
	if (time == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must not be zero", name),
				 errdetail("A window would be complete before its first event."),
				 errhint("For an event after each one, use max_events => 1.")));
	return time;
}

static void
fill_completion(FunctionCallInfo fcinfo, ObxSubscription *subscription)
{
	if (!PG_ARGISNULL(MAX_EVENTS))
		subscription->max_events = obx_argument_require_number(fcinfo, MAX_EVENTS, "max_events",
															   false, 1, PG_INT32_MAX);
	subscription->quiet = get_time(fcinfo, QUIET, "quiet");
	subscription->period = get_time(fcinfo, PERIOD, "period");
	subscription->until = obx_argument_expression(fcinfo, UNTIL, "until");
	if (subscription->max_events == 0 && subscription->quiet == 0 &&
		subscription->period == 0 && subscription->until == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("nothing says when aggregate \"%s\" is complete", subscription->name),
				 errdetail("It would fold events for ever and emit none."),
				 errhint("Give at least one of max_events, quiet, period and until.")));
	if (subscription->until != NULL)
		obx_session_check_as_owner(subscription, obx_completion_check);
}

/*
 * aggregate(name, types, emit_type, reducer, max_events, quiet, period, until,
 * filter, start, if_exists)
 */
Datum
obx_sql_aggregate(PG_FUNCTION_ARGS)
{
	ObxSubscription subscription = {0};
	ObxSubscription *existing;

	PreventCommandIfReadOnly("outbox.aggregate()");
	if (!obx_subscribe_begin(fcinfo, IF_EXISTS, &subscription, &existing))
		PG_RETURN_VOID();
	if (existing != NULL)
		obx_options_require_set_role(existing->owner);
	check_name(subscription.name);
	set_defaults(&subscription);
	subscription.types = obx_argument_require_patterns(fcinfo, TYPES, "types",
													   &subscription.ntypes);
	subscription.emit_type = obx_argument_require_text(fcinfo, EMIT_TYPE, "emit_type");
	obx_event_check_type(subscription.emit_type, strlen(subscription.emit_type));
	obx_options_check_types(&subscription);
	obx_handler_resolve_reducer(obx_argument_require_text(fcinfo, REDUCER, "reducer"),
								&subscription);
	fill_completion(fcinfo, &subscription);
	subscription.filter = obx_argument_expression(fcinfo, FILTER, "filter");
	if (subscription.filter != NULL)
		obx_filter_check(&subscription);
	obx_options_warn_owner(subscription.owner);
	obx_subscribe_finish(fcinfo, START, "outbox.aggregate()", &subscription, existing);
	PG_RETURN_VOID();
}
