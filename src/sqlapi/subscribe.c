/*
 * outbox.subscribe(), unsubscribe(), pause() and resume().
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/locks.h"
#include "log/generation.h"
#include "sqlapi/argument.h"
#include "sqlapi/existing.h"
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

/*
 * A transaction that makes or removes a subscription has its name locked until
 * it ends, so that of two migrations that run at once, each finds what the
 * other has made.  A call that makes nothing releases the name at once.
 */
static bool
find_existing(FunctionCallInfo fcinfo, int if_exists, const char *name,
			  ObxSubscription **existing)
{
	ObxIfExists reaction = obx_existing_argument(fcinfo, if_exists);
	LOCKTAG		tag = obx_lock_subscription_name(name);

	obx_lock_acquire(tag, ExclusiveLock, true);
	*existing = obx_subscription_find_by_name(name);
	if (*existing == NULL)
		return true;
	if (reaction == OBX_IF_EXISTS_ALTER)
	{
		*existing = obx_argument_lock_subscription(fcinfo, "name");
		obx_options_require_owner(*existing);
		return true;
	}
	ereport(reaction == OBX_IF_EXISTS_KEEP ? NOTICE : ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("subscription \"%s\" already exists%s", name,
					reaction == OBX_IF_EXISTS_KEEP ? ", keeping it" : ""),
			 reaction == OBX_IF_EXISTS_KEEP ? 0 :
			 errdetail("Names of subscriptions are unique in a database."),
			 reaction == OBX_IF_EXISTS_KEEP ? 0 :
			 errhint("Choose another name, remove it with outbox.unsubscribe(), or say with if_exists whether to 'keep' or to 'alter' it.")));
	obx_lock_release(tag, ExclusiveLock);
	return false;
}

bool
obx_subscribe_begin(FunctionCallInfo fcinfo, int if_exists, ObxSubscription *subscription,
					ObxSubscription **existing)
{
	(void) obx_generation_follow(); /* see set_paused() */
	subscription->name = obx_argument_require_text(fcinfo, 0, "name");
	check_name(subscription->name);
	if (!find_existing(fcinfo, if_exists, subscription->name, existing))
		return false;
	if (*existing != NULL)
	{
		subscription->id = (*existing)->id;
		subscription->owner = (*existing)->owner;
		subscription->search_path = (*existing)->search_path;
		return true;
	}
	subscription->owner = GetUserId();
	subscription->search_path = pstrdup(namespace_search_path);
	subscription->created_at = GetCurrentTimestamp();
	return true;
}

/* The default keeps the order, but surprises users who start a second consumer. */
static void
tell_of_turns(const ObxSubscription *subscription)
{
	if (subscription->kind == OBX_KIND_PULL && subscription->concurrency == 1)
		ereport(NOTICE,
				(errmsg("one consumer at a time gets events of subscription \"%s\"",
						subscription->name),
				 errdetail("It has one lane, and each lane is handed out to one consumer."),
				 errhint("For consumers that work side by side, give it as many lanes with the argument \"concurrency\".")));
}

void
obx_subscribe_finish(FunctionCallInfo fcinfo, int start, const char *function,
					 ObxSubscription *subscription, ObxSubscription *existing)
{
	char	   *from = obx_argument_require_text(fcinfo, start, "start");

	if (existing != NULL)
		obx_existing_alter(existing, subscription, function);
	else
	{
		subscription->first_position = obx_start_find(from, subscription);
		obx_lifecycle_create(subscription);
		tell_of_turns(subscription);
	}
	obx_preload_warn();
}

/*
 * subscribe(name, types, handler, channel, filter, start, ordering,
 * concurrency, batch_size, max_attempts, backoff, max_backoff, timeout,
 * on_exhausted, payload, if_exists)
 */
Datum
obx_sql_subscribe(PG_FUNCTION_ARGS)
{
	ObxSubscription subscription = {0};
	ObxSubscription *existing;

	PreventCommandIfReadOnly("outbox.subscribe()");
	if (!obx_subscribe_begin(fcinfo, 15, &subscription, &existing))
		PG_RETURN_VOID();
	obx_options_fill(fcinfo, OBX_OPTIONS_NEW, &subscription);
	obx_subscribe_finish(fcinfo, 5, "outbox.subscribe()", &subscription, existing);
	PG_RETURN_VOID();
}

/* unsubscribe(name) */
Datum
obx_sql_unsubscribe(PG_FUNCTION_ARGS)
{
	char	   *name;

	PreventCommandIfReadOnly("outbox.unsubscribe()");
	/* before the subscription's lock, and rights before both */
	name = obx_argument_require_subscription(fcinfo)->name;
	obx_lock_acquire(obx_lock_subscription_name(name), ExclusiveLock, true);
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
