/*
 * The frame around every call of a subscriber.
 *
 * Settings that the call changes are undone by a nest level of their own;
 * deferred constraints fire before it counts as done, so that their failure
 * has an event; a limit ends it when its time is up.
 *
 * Must not know what is done about an error.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/settings.h"
#include "delivery/call.h"

int64
obx_call_time_limit(const ObxSubscription *subscription)
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
	obx_limit_begin(&call->former, obx_call_time_limit(subscription), now);
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

/* Is a part of one of them stored out of line? */
static bool
have_external(const ObxTargetEvent *events, int count)
{
	for (int i = 0; i < count; i++)
		if (HeapTupleHasExternal(events[i].tuple))
			return true;
	return false;
}

/* What is out of line is fetched with a snapshot, and between two calls there is none. */
static void
deliver(ObxTarget *target, const ObxTargetEvent *events, int count)
{
	bool		needs_snapshot = have_external(events, count);

	if (needs_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	target->deliver(target, events, count);
	if (needs_snapshot)
		PopActiveSnapshot();
}

void
obx_call_deliver(ObxTarget *target, const ObxTargetEvent *events, int count,
				 TimestampTz now)
{
	ObxCall		call;

	if (!target->runs_code)
	{
		deliver(target, events, count);
		return;
	}
	obx_call_begin(&call, target->subscription, now);
	deliver(target, events, count);
	obx_call_end(&call);
}
