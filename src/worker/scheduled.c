/*
 * When the sequencer's process moves scheduled events into the log.
 *
 * It remembers the place in their order up to which it knows of none, and
 * when the next one behind it is due.  A commit that scheduled something tells
 * for when.  What is not told so (COMMIT PREPARED, for one), and what was
 * skipped because a transaction might cancel it, is found by looking from the
 * beginning now and then.  While the xmin horizon is held back that may mean
 * to pass the index entries of everything moved since; so looking takes a
 * bounded part of the time.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/doorbell.h"
#include "base/settings.h"
#include "emit/scheduled.h"
#include "worker/process.h"
#include "worker/scheduled.h"

/* How soon to try again where another session is in the way. */
#define BUSY_DELAY OBX_MS(20)

/* Looking from the beginning takes at most one part in so many of the time. */
#define LOOK_PARTS 20

typedef struct Step
{
	ObxInstalled installed;
	ObxScheduledMove result;
} Step;

/* There is nothing before it that is known of. */
static ObxSchedulePlace place = {DT_NOBEGIN, 0};

static TimestampTz next_due = DT_NOEND; /* of those behind the place, as they
										 * say */

/* The last look from the beginning: when, how long it took, what it left. */
static TimestampTz looked_at = 0;
static int64 look_cost = 0;
static bool skipped = false;

/* When to look from the beginning again; the setting may have changed. */
static TimestampTz
next_look(void)
{
	int64		interval = skipped ? BUSY_DELAY : OBX_MS(obx_poll_interval);

	return looked_at + Max(interval, look_cost * LOOK_PARTS);
}

/* obx_process_run's step */
static void
move_batch(void *arg)
{
	Step	   *step = arg;

	step->result.busy = true;
	step->installed = obx_process_lock_extension();
	if (step->installed == OBX_INSTALLED)
		obx_scheduled_move(&place, false, &step->result);
}

/* What commits have told since the last call. */
static void
hear_of_scheduled(void)
{
	TimestampTz due = obx_doorbell_take_due();

	next_due = Min(next_due, due);
	if (due <= place.deliver_at)
	{
		place.deliver_at = due;
		place.id = 0;
	}
}

/* Where to go on, and when. */
static void
note_result(const ObxScheduledMove *result, bool looking, TimestampTz now)
{
	if (looking)
	{
		look_cost = result->search;
		skipped = false;
	}
	skipped = skipped || result->skipped;

	next_due = result->more ? now : result->next;
	if (!result->more)
	{
		/* index entries before the next one are all dead */
		place.deliver_at = Min(result->next, now);
		place.id = 0;
	}
}

TimestampTz
obx_scheduled_due(void)
{
	return obx_clock_from_time(next_due);
}

TimestampTz
obx_scheduled_run(TimestampTz now)
{
	static ObxFailures failures = {.what = "could not move scheduled events"};
	ObxSchedulePlace before;
	bool		looking;
	Step		step;

	hear_of_scheduled();
	looking = next_look() <= now;
	if (failures.retry_at > now || (!looking && obx_scheduled_due() > now))
		return Max(failures.retry_at, Min(obx_scheduled_due(), next_look()));

	before = place;
	if (looking)
	{
		place.deliver_at = DT_NOBEGIN;
		place.id = 0;
	}
	pgstat_report_activity(STATE_RUNNING, "moving scheduled events");
	if (!obx_process_run(move_batch, &step, &failures))
	{
		place = before;
		return failures.retry_at;
	}
	if (step.result.busy)
	{
		place = before;
		return now + BUSY_DELAY;
	}
	if (looking)
		looked_at = obx_clock_now();
	note_result(&step.result, looking, GetCurrentTimestamp());
	return Min(obx_scheduled_due(), next_look());
}
