/*
 * Time limits on what runs.
 *
 * There is one timer.  It is armed once and looks, when it goes off, whether
 * the limit in force then has run out: arming it for each call would cost more
 * than many a handler.
 *
 * Limits nest: what a handler calls can have a limit of its own.  The first
 * deadline of all that are in force counts, and whose it is is remembered, so
 * that the inner place does not take the outer limit's cancel for its own.
 *
 * Must not know what runs.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/limit.h"

/* Beyond its time, something is cancelled as often, and then its process ended. */
#define CANCELLED_AGAIN USECS_PER_SEC
#define ENDED_AFTER (5 * USECS_PER_SEC)

static TimeoutId timer;
static bool timer_registered = false;

/*
 * Written by the main line, read by the timer's signal handler.  By
 * obx_clock_now(): a clock that is set takes no time away from what runs.
 */
static volatile TimestampTz deadline = 0;	/* 0 for none */
static volatile int deadline_owner = 0;

/* the depth whose limit has run out, 0 for none; written by the handler */
static volatile sig_atomic_t expired = 0;

/* when the timer goes off, if it is armed */
static volatile TimestampTz armed_until = 0;

static int	depth = 0;

/* Rounded up, or the last millisecond would be spent arming. */
static void
arm_timer(TimestampTz until, int64 microseconds)
{
	armed_until = until;
	enable_timeout_after(timer, (int) Min((microseconds + 999) / 1000, INT_MAX));
}

/* Signal handler: cancels what runs like a statement timeout, or waits on. */
static void
check_time(void)
{
	TimestampTz until = deadline;
	int64		left;

	if (until == 0)
		return;
	left = until - obx_clock_now();
	if (left > 0)
	{
		arm_timer(until, left);
		return;
	}
	if (expired == 0)
		expired = deadline_owner;

	/*
	 * The code that runs may catch the cancel and go on.  It gets another one
	 * every second; in the end a worker ends its session.
	 */
	kill(MyProcPid, left < -ENDED_AFTER && MyBackendType == B_BG_WORKER ? SIGTERM : SIGINT);
	arm_timer(GetCurrentTimestamp() + CANCELLED_AGAIN, CANCELLED_AGAIN);
}

/*
 * Still armed for an earlier deadline, it goes off early enough: check_time()
 * then sees to this one.  Where it should have gone off, the clock was set
 * back, by which PostgreSQL's timers go.
 */
static void
require_timer(TimestampTz now)
{
	if (!timer_registered)
	{
		timer = RegisterTimeout(USER_TIMEOUT, check_time);
		timer_registered = true;
	}
	if (!get_timeout_active(timer) || armed_until > deadline || armed_until < now)
		arm_timer(deadline, Max(deadline - now, 1));
}

void
obx_limit_save(ObxLimit *here)
{
	here->depth = depth;
	here->deadline = deadline;
	here->owner = deadline_owner;
}

/* The handler must never see a deadline with the wrong owner. */
static void
set_deadline(TimestampTz until, int owner)
{
	deadline = 0;
	deadline_owner = owner;
	deadline = until;
}

void
obx_limit_begin(ObxLimit *former, int64 microseconds, TimestampTz now)
{
	obx_limit_save(former);
	depth++;
	if (microseconds == 0 || (deadline != 0 && deadline <= now + microseconds))
		return;
	set_deadline(now + microseconds, depth);
	require_timer(now);
}

static void
put_back(const ObxLimit *former)
{
	depth = former->depth;
	if (deadline == former->deadline && deadline_owner == former->owner)
		return;
	set_deadline(former->deadline, former->owner);
	if (deadline != 0)
		require_timer(obx_clock_now());
}

void
obx_limit_end(const ObxLimit *former)
{
	/* the signal may be under way: take it here, where it has an owner */
	deadline = 0;
	if (expired != 0)
		CHECK_FOR_INTERRUPTS();
	/* what ran may have caught the cancel */
	if (expired > former->depth)
		expired = 0;
	put_back(former);
}

bool
obx_limit_restore(const ObxLimit *here)
{
	bool		result;

	deadline = 0;
	result = expired > here->depth;
	if (result)
	{
		/*
		 * another error may have come first: the next call must not get the
		 * cancel
		 */
		expired = 0;
		QueryCancelPending = false;
	}
	put_back(here);
	return result;
}
