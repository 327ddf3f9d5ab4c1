/*
 * What surrounds every call of a subscriber.
 *
 * Settings that the call changes are undone by a nest level of their own;
 * deferred constraints fire before it counts as done, so that their failure
 * has an event; a limit ends it when its time is up.
 *
 * Must not know what is done about an error.
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/trigger.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/settings.h"
#include "catalog/names.h"
#include "delivery/target.h"

ObxTarget *
obx_target_open(const ObxSubscription *subscription)
{
	switch (subscription->kind)
	{
		case OBX_KIND_FUNCTION:
			return obx_function_open(subscription);
		case OBX_KIND_CHANNEL:
			return obx_channel_open(subscription);
		case OBX_KIND_AGGREGATE:
			return obx_aggregate_open(subscription);
		case OBX_KIND_PULL:
			break;
	}
	elog(ERROR, "subscription \"%s\" has no target", subscription->name);
	return NULL;				/* keep the compiler quiet */
}

void
obx_target_init(ObxTarget *target, const ObxSubscription *subscription)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);

	target->subscription = subscription;
	target->runs_code = true;
	target->tupdesc = CreateTupleDescCopy(RelationGetDescr(log));
	table_close(log, AccessShareLock);
}

/* ---- the call ---- */

int64
obx_target_time_limit(const ObxSubscription *subscription)
{
	int64		most = obx_max_timeout * INT64CONST(1000);

	if (most <= 0)
		return subscription->timeout;
	return subscription->timeout == 0 ? most : Min(subscription->timeout, most);
}

void
obx_call_begin(ObxCall *call, const ObxSubscription *subscription, TimestampTz now)
{
	call->nest_level = NewGUCNestLevel();
	obx_limit_begin(&call->former, obx_target_time_limit(subscription), now);
}

void
obx_call_end(const ObxCall *call)
{
	/* there, a call can defer nothing: what is pending is someone else's */
	if (!InSecurityRestrictedOperation())
		AfterTriggerFireDeferred();
	obx_limit_end(&call->former);
	AtEOXact_GUC(false, call->nest_level);
}

void
obx_target_deliver(ObxTarget *target, const ObxTargetEvent *events, int count,
				   TimestampTz now)
{
	ObxCall		call;

	if (!target->runs_code)
	{
		target->deliver(target, events, count);
		return;
	}
	obx_call_begin(&call, target->subscription, now);
	target->deliver(target, events, count);
	obx_call_end(&call);
}
