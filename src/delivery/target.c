/*
 * What surrounds every call of a subscriber.
 *
 * Settings that the call changes are undone by a nest level of their own;
 * deferred constraints fire before it counts as done, so that their failure
 * has an event; a timer ends it when its time is up.  The timer is armed once
 * and looks, when it goes off, whether the call that runs then has used up
 * its time: arming it for each call would cost more than many a handler.
 *
 * Must not know what is done about an error.
 */
#include "postgres.h"

#include <signal.h>

#include "access/table.h"
#include "commands/trigger.h"
#include "utils/rel.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "delivery/target.h"

static TimeoutId timer;
static bool timer_registered = false;

/* written by the main line, read by the timer's signal handler */
static volatile TimestampTz call_began = 0; /* 0 outside a call */
static volatile int64 call_limit = 0;	/* microseconds */
static volatile sig_atomic_t timed_out = false;

/* when the timer goes off, if it is armed */
static volatile TimestampTz armed_until = 0;

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

/* ---- the time limit ---- */

static void
arm_timer(TimestampTz until, int64 microseconds)
{
	armed_until = until;
	enable_timeout_after(timer, (int) Min((microseconds + 999) / 1000, INT_MAX));
}

/* Signal handler: cancels the call like a statement timeout, or waits on. */
static void
check_time(void)
{
	int64		left;

	if (call_began == 0)
		return;
	left = call_began + call_limit - GetCurrentTimestamp();
	if (left > 0)
	{
		arm_timer(call_began + call_limit, left);
		return;
	}
	timed_out = true;
	kill(MyProcPid, SIGINT);
}

static void
begin_time(int64 limit, TimestampTz now)
{
	timed_out = false;			/* a call may have caught the cancel */
	call_limit = limit;
	call_began = now;
	if (limit == 0)
	{
		call_began = 0;
		return;
	}
	if (!timer_registered)
	{
		timer = RegisterTimeout(USER_TIMEOUT, check_time);
		timer_registered = true;
	}

	/*
	 * Still armed from an earlier call, it goes off early enough unless that
	 * had more time: check_time() then sees to this one.
	 */
	if (!get_timeout_active(timer) || armed_until > call_began + limit)
		arm_timer(call_began + limit, limit);
}

static void
end_time(void)
{
	call_began = 0;
	/* the signal may be under way: take it here, where it has an event */
	if (timed_out)
		CHECK_FOR_INTERRUPTS();
}

bool
obx_target_has_timed_out(void)
{
	bool		result = timed_out;

	call_began = 0;
	timed_out = false;

	/*
	 * another error may have come first: the cancel must not hit the next
	 * call
	 */
	if (result)
		QueryCancelPending = false;
	return result;
}

/* ---- the call ---- */

int
obx_call_begin(const ObxSubscription *subscription, TimestampTz now)
{
	int			nest_level = NewGUCNestLevel();

	begin_time(subscription->timeout, now);
	return nest_level;
}

void
obx_call_end(int nest_level)
{
	/* there, a call can defer nothing: what is pending is someone else's */
	if (!InSecurityRestrictedOperation())
		AfterTriggerFireDeferred();
	end_time();
	AtEOXact_GUC(false, nest_level);
}

void
obx_target_deliver(ObxTarget *target, const ObxTargetEvent *events, int count,
				   TimestampTz now)
{
	int			nest_level;

	if (!target->runs_code)
	{
		target->deliver(target, events, count);
		return;
	}
	nest_level = obx_call_begin(target->subscription, now);
	target->deliver(target, events, count);
	obx_call_end(nest_level);
}
