/*
 * Windows of aggregates that are due.
 *
 * The search for due windows begins where the last one ended: with a held xmin
 * horizon, the versions before that place stay and would be read again and
 * again.
 *
 * If a window's event is refused (by a contract, or because it has too many
 * causes), no event can be tried again in its place.  The window stays as it
 * is and is tried again, after twice the time that it has been late.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guard.h"
#include "catalog/delivery.h"
#include "catalog/window.h"
#include "delivery/aggregate.h"
#include "dispatch/due_windows.h"
#include "dispatch/retry.h"
#include "emit/append.h"
#include "emit/context.h"

/* Windows that are tried one by one where one fails: each costs a subtransaction. */
#define OBX_WINDOWS_SINGLY	20

/* How far ahead a window can be due at most. */
static int64
longest_wait(const ObxSubscription *subscription)
{
	return Max(Max(subscription->quiet, subscription->period),
			   Max(subscription->backoff, subscription->max_backoff));
}

/* Does the window's group wait for an event that failed? */
static bool
is_blocked(const ObxDueWindows *windows, const ObxWindow *window)
{
	ObxOrderKey key = {.has = true,.hash = obx_lane_hash_of_group(window->key)};

	return obx_lane_is_blocked(windows->lane, key);
}

bool
obx_due_windows_exist(const ObxSubscription *subscription, TimestampTz due, TimestampTz now)
{
	return due != 0 &&
		(due <= now || obx_clock_was_ahead(due, longest_wait(subscription)));
}

/*
 * Adds those whose times were noted by a clock that was ahead: they would wait
 * until it is there again.  "time" may be that of a segment.
 */
static void
list_ahead(ObxDueWindows *windows, TimestampTz time, int limit)
{
	int64		longest = longest_wait(windows->subscription);
	ObxWindowScan scan;
	ObxWindow	window;

	obx_window_scan_begin(&scan, windows->subscription->id,
						  Max(time, GetCurrentTimestamp()) + longest);
	while (windows->count < limit && obx_window_scan_next(&scan, &window))
		if (window.due > time && obx_clock_was_ahead(window.due, longest) &&
			!is_blocked(windows, &window))
			windows->windows[windows->count++] = window;
	obx_window_scan_end(&scan);
}

void
obx_due_windows_list(ObxDueWindows *windows, TimestampTz from, TimestampTz time, int limit)
{
	ObxWindowScan scan;
	ObxWindow	window;

	windows->windows = palloc(limit * sizeof(ObxWindow));
	windows->bound = windows->next = 0;
	windows->count = 0;
	obx_window_scan_begin(&scan, windows->subscription->id, from);
	while (obx_window_scan_next(&scan, &window))
	{
		bool		blocked = is_blocked(windows, &window);

		if (window.due > time || windows->count == limit)
		{
			windows->bound = obx_scheduled_earlier(windows->bound, window.due);
			windows->next = window.due;
			break;
		}
		if (blocked)
			windows->bound = obx_scheduled_earlier(windows->bound, window.due);
		else
			windows->windows[windows->count++] = window;
	}
	obx_window_scan_end(&scan);
	list_ahead(windows, time, limit);
}

/* ---- completing ---- */

/* What one guarded run does. */
typedef struct Run
{
	ObxDueWindows *windows;
	int			first;
	int			end;
	int			current;
} Run;

static void
complete_each(void *arg)
{
	Run		   *run = arg;

	for (run->current = run->first; run->current < run->end; run->current++)
	{
		CHECK_FOR_INTERRUPTS();
		obx_aggregate_complete(run->windows->target, &run->windows->windows[run->current]);
	}
}

/* ObxGuarded */
static void
complete_run(void *arg)
{
	obx_append_together(complete_each, arg);
}

static void
describe_window(void *arg)
{
	const Run  *run = arg;

	if (run->current < run->end)
		errcontext("subscription \"%s\", window up to the event at position " INT64_FORMAT,
				   run->windows->subscription->name,
				   run->windows->windows[run->current].last_position);
}

static ErrorData *
guard_run(Run *run)
{
	ObxDueWindows *windows = run->windows;
	ObxFault	fault;
	ErrorData  *error = obx_guard_catch(complete_run, run, CurrentMemoryContext, &fault);

	obx_context_leave();
	windows->target->end_run(windows->target, error != NULL);
	if (error == NULL)
		return NULL;
	if (fault == OBX_FAULT_SESSION ||
		obx_retry_judge(error->sqlerrcode) == OBX_VERDICT_INFRASTRUCTURE)
		ReThrowError(error);
	return error;
}

static void
put_off(ObxDueWindows *windows, const ObxWindow *window, const ErrorData *error)
{
	const ObxSubscription *subscription = windows->subscription;
	TimestampTz now = GetCurrentTimestamp();
	int64		late = now - obx_aggregate_due(subscription, window);
	int64		wait = Min(Max(late, subscription->backoff), subscription->max_backoff);
	const char *message = error->message != NULL ? error->message : "unknown error";

	obx_aggregate_postpone(windows->target, window, now + wait);
	windows->target->end_run(windows->target, false);
	(void) obx_failure_record(subscription->id, window->last_position, message);
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("could not emit what subscription \"%s\" has aggregated: %s",
					subscription->name, message),
			 errdetail("The window up to the event at position " INT64_FORMAT
					   " stays open and is tried again at %s.",
					   window->last_position, timestamptz_to_str(now + wait))));
}

void
obx_due_windows_complete(ObxDueWindows *windows)
{
	Run			run = {.windows = windows,.end = windows->count};
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = describe_window,
		.arg = &run
	};

	error_context_stack = &context;
	if (windows->count > 0 && guard_run(&run) != NULL)
	{
		/* one of them fails: a few, each on its own, and the others next time */
		if (windows->count > OBX_WINDOWS_SINGLY)
		{
			windows->count = OBX_WINDOWS_SINGLY;
			windows->bound = obx_scheduled_earlier(windows->bound,
												   windows->windows[OBX_WINDOWS_SINGLY].due);
		}
		for (int i = 0; i < windows->count; i++)
		{
			ErrorData  *error;

			run.first = i;
			run.end = i + 1;
			error = guard_run(&run);
			if (error != NULL)
				put_off(windows, &windows->windows[i], error);
		}
	}
	error_context_stack = context.previous;
}
