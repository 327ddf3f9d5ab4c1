/*
 * outbox.subscribe(), unsubscribe(), pause() and resume().
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "catalog/window.h"
#include "dispatch/lane.h"
#include "log/generation.h"
#include "sqlapi/argument.h"
#include "sqlapi/options.h"
#include "sqlapi/preload.h"
#include "sqlapi/start.h"
#include "sqlapi/subscribe.h"

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
	obx_subscription_insert(subscription);
	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxProgress progress = {
			.subscription = subscription->id,
			.lane = lane,
			.position = subscription->first_position - 1
		};

		obx_progress_advance(&progress);
	}
	obx_doorbell_arm_configuration();
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

/*
 * unsubscribe(name): a lane that is being served keeps its rows, which are
 * cleaned later; its pass finds the subscription gone and undoes its batch.
 */
Datum
obx_sql_unsubscribe(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription;
	bool		idle = true;
	int64		windows;

	PreventCommandIfReadOnly("outbox.unsubscribe()");
	subscription = obx_argument_lock_subscription(fcinfo, "name");
	obx_subscription_delete(subscription);
	for (int lane = 0; lane < subscription->concurrency && idle; lane++)
		idle = obx_lane_lock(subscription->id, lane, false);
	if (idle && obx_window_delete_all(subscription->id, false, &windows) &&
		obx_progress_delete(subscription->id, 0))
	{
		obx_delivery_delete_all(subscription->id);
		obx_failure_delete(subscription->id);
	}
	obx_doorbell_arm_configuration();
	PG_RETURN_VOID();
}

static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	ObxSubscription *subscription;

	/* a copy that nobody has noticed yet pauses everything, before us */
	(void) obx_generation_follow();
	subscription = obx_argument_lock_subscription(fcinfo, "name");
	if (subscription->paused == paused)
		return;
	obx_subscription_set_paused(subscription, paused, GetUserNameFromId(GetUserId(), false));
	obx_subscription_update(subscription);
	obx_doorbell_arm_configuration();
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
