/*
 * outbox.subscribe(), unsubscribe(), pause() and resume().
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "log/generation.h"
#include "sqlapi/argument.h"
#include "sqlapi/options.h"
#include "sqlapi/preload.h"
#include "sqlapi/start.h"
#include "sqlapi/subscribe.h"
#include "subscription/lifecycle.h"

PG_FUNCTION_INFO_V1(obx_sql_subscribe);
PG_FUNCTION_INFO_V1(obx_sql_unsubscribe);
PG_FUNCTION_INFO_V1(obx_sql_pause);
PG_FUNCTION_INFO_V1(obx_sql_resume);

static void
check_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) > 200)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a subscription: \"%s\"", name),
				 errdetail("A name has 1 to 200 bytes."),
				 errhint("Name what the subscriber does.")));
}

void
obx_subscribe_begin(FunctionCallInfo fcinfo, ObxSubscription *subscription)
{
	(void) obx_generation_follow(); /* see set_paused() */
	subscription->name = obx_argument_require_text(fcinfo, 0, "name");
	check_name(subscription->name);
	subscription->owner = GetUserId();
	subscription->search_path = pstrdup(namespace_search_path);
	subscription->created_at = GetCurrentTimestamp();
}

void
obx_subscribe_finish(ObxSubscription *subscription, const char *start)
{
	if (obx_subscription_find_by_name(subscription->name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("subscription \"%s\" already exists", subscription->name),
				 errdetail("Names of subscriptions are unique in a database."),
				 errhint("Choose another name, or remove it with outbox.unsubscribe().")));

	subscription->first_position = obx_start_find(start, subscription);
	obx_lifecycle_create(subscription);
	obx_preload_warn();
}

/*
 * subscribe(name, types, handler, channel, filter, start, ordering,
 * concurrency, batch_size, max_attempts, backoff, max_backoff, timeout,
 * on_exhausted, payload)
 */
Datum
obx_sql_subscribe(PG_FUNCTION_ARGS)
{
	ObxSubscription subscription = {0};

	PreventCommandIfReadOnly("outbox.subscribe()");
	obx_subscribe_begin(fcinfo, &subscription);
	obx_options_fill(fcinfo, OBX_OPTIONS_NEW, &subscription);
	obx_subscribe_finish(&subscription, obx_argument_require_text(fcinfo, 5, "start"));
	PG_RETURN_VOID();
}

/* unsubscribe(name) */
Datum
obx_sql_unsubscribe(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.unsubscribe()");
	obx_lifecycle_remove(obx_argument_lock_subscription(fcinfo, "name"));
	PG_RETURN_VOID();
}

static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	/* a copy that nobody has noticed yet pauses everything, before us */
	(void) obx_generation_follow();
	obx_lifecycle_set_paused(obx_argument_lock_subscription(fcinfo, "name"), paused);
}

Datum
obx_sql_pause(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.pause()");
	set_paused(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
obx_sql_resume(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.resume()");
	set_paused(fcinfo, false);
	PG_RETURN_VOID();
}
