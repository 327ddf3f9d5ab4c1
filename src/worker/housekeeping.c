/*
 * Housekeeping: partitions ahead of need, retention, superseded rows of
 * progress, keys that are past their window.
 *
 * The sequencer's process does the tasks by the clock, outbox.run() all at once.
 * A task is done in steps, each in a transaction of its own.  In the sequencer's
 * process a task that fails is reported, tried again ever less often, and keeps
 * no other task from running.  A task that finds nothing to do takes no
 * transaction id and writes nothing.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/settings.h"
#include "capture/spread.h"
#include "catalog/progress.h"
#include "catalog/window.h"
#include "emit/once.h"
#include "log/ahead.h"
#include "log/retention.h"
#include "subscription/retention_floor.h"
#include "subscription/upkeep.h"
#include "worker/housekeeping.h"
#include "worker/process.h"
#include "worker/slot.h"

#define SECONDS(n) ((n) * USECS_PER_SEC)
#define SHORTEST_INTERVAL SECONDS(1)
#define LONGEST_INTERVAL SECONDS(60)
#define CLEAN_INTERVAL SECONDS(10)

/*
 * Between the steps of a task that is done in steps: positions are given in
 * between, and a step takes less.
 */
#define STEP_INTERVAL INT64CONST(20000)

/* Partitions are tried to be made so often every second, then less often. */
#define SOON_ATTEMPTS 30

typedef struct Task
{
	ObxFailures failures;
	const char *activity;
	bool		(*has_work) (void); /* needs no transaction; NULL: always */
	ObxStage	stage;			/* not before */
	bool		(*perform) (bool in_background);	/* a step; is more left? */
	int64		(*interval) (void); /* after the last step */
	TimestampTz due;
} Task;

static uint64 known_progress = 0;

/* What was found when tables below were looked at, once by each process. */
static ObxSpread spread = OBX_SPREAD_MORE;
static int64 spread_delay = 0;

static ObxRetentionRound retention_round;

/* how often partitions could not be made although there was none for now */
static int	partitions_refused = 0;

static int64
bound_interval(int64 interval)
{
	return Max(Min(interval, LONGEST_INTERVAL), SHORTEST_INTERVAL);
}

static int64
partition_interval(void)
{
	if (partitions_refused > 0)
		return partitions_refused <= SOON_ATTEMPTS ? SHORTEST_INTERVAL : LONGEST_INTERVAL / 2;
	return bound_interval(obx_partition_interval * USECS_PER_SEC / 4);
}

static bool
prepare_partitions(bool in_background)
{
	bool		urgent;
	ObxAhead	result = obx_ahead_prepare(in_background, &urgent);

	partitions_refused = result == OBX_AHEAD_LATER && urgent ? partitions_refused + 1 : 0;
	return result == OBX_AHEAD_MADE;
}

static bool
has_retention(void)
{
	return obx_retention >= 0 || obx_max_retention >= 0;
}

static int64
retention_interval(void)
{
	int64		retention = obx_retention >= 0 ? obx_retention : PG_INT32_MAX;

	if (obx_max_retention >= 0)
		retention = Min(retention, obx_max_retention);
	return bound_interval(retention * USECS_PER_SEC / 10);
}

static bool
apply_retention(bool in_background)
{
	return obx_retention_step(&retention_round, obx_retention_floor);
}

/* Superseded rows come with progress; some go only when old snapshots have. */
static int64
clean_interval(void)
{
	bool		progressed = obx_slot_own->progress != known_progress;

	known_progress = obx_slot_own->progress;
	return progressed ? CLEAN_INTERVAL : LONGEST_INTERVAL;
}

static bool
clean_progress(bool in_background)
{
	bool		progress_left = obx_progress_clean();

	return obx_window_clean() || progress_left;
}

static bool
clean_remnants(bool in_background)
{
	return obx_upkeep_clean();
}

static int64
remnants_interval(void)
{
	return LONGEST_INTERVAL;
}

static bool
forget_keys(bool in_background)
{
	obx_once_forget();
	return false;
}

static int64
forget_interval(void)
{
	return bound_interval(obx_idempotency_window * USECS_PER_SEC / 8);
}

static bool
is_spreading(void)
{
	return spread != OBX_SPREAD_DONE;
}

static bool
spread_rules(bool in_background)
{
	spread = obx_spread_step();
	spread_delay = spread == OBX_SPREAD_LOCKED ? bound_interval(spread_delay * 2) : 0;
	return spread == OBX_SPREAD_MORE;
}

static int64
spread_interval(void)
{
	return spread == OBX_SPREAD_DONE ? LONGEST_INTERVAL : spread_delay;
}

static Task tasks[] = {
	{
		.failures = {.what = "could not give tables the capture rules of those above"},
		.activity = "spreading capture rules",
		.stage = OBX_STAGE_LOADING,
		.has_work = is_spreading,
		.perform = spread_rules,
		.interval = spread_interval
	},
	{
		.failures = {.what = "could not make partitions"},
		.activity = "making partitions",
		.stage = OBX_STAGE_IN_USE,
		.perform = prepare_partitions,
		.interval = partition_interval
	},
	{
		.failures = {.what = "could not apply retention"},
		.activity = "applying retention",
		.stage = OBX_STAGE_POSITIONED,
		.has_work = has_retention,
		.perform = apply_retention,
		.interval = retention_interval
	},
	{
		.failures = {.what = "could not clean up progress"},
		.activity = "cleaning up progress",
		.stage = OBX_STAGE_SETTLED,
		.perform = clean_progress,
		.interval = clean_interval
	},
	{
		.failures = {.what = "could not clean up after unsubscribing"},
		.activity = "cleaning up after unsubscribing",
		.stage = OBX_STAGE_SETTLED,
		.perform = clean_remnants,
		.interval = remnants_interval
	},
	{
		.failures = {.what = "could not forget idempotency keys"},
		.activity = "forgetting idempotency keys",
		.stage = OBX_STAGE_UNUSED,
		.perform = forget_keys,
		.interval = forget_interval
	},
};

/* One step, as obx_process_run() calls it. */
typedef struct Step
{
	const Task *task;
	bool		is_more_left;
} Step;

static void
run_step(void *arg)
{
	Step	   *step = arg;

	if (obx_process_lock_extension() == OBX_INSTALLED)
		step->is_more_left = step->task->perform(true);
}

/* The time until the task is due again, after a step. */
static int64
choose_interval(const Task *task, bool is_more_left)
{
	int64		interval = task->interval();

	return is_more_left ? Min(interval, STEP_INTERVAL) : interval;
}

void
obx_housekeeping_clean_remnants(void)
{
	for (int i = 0; i < lengthof(tasks); i++)
		if (tasks[i].perform == clean_remnants)
			tasks[i].due = 0;
}

TimestampTz
obx_housekeeping_run(ObxStage stage)
{
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < lengthof(tasks); i++)
	{
		Task	   *task = &tasks[i];
		TimestampTz now = obx_clock_now();

		if (task->stage > stage)
			continue;
		if (task->due <= now)
		{
			Step		step = {.task = task};
			bool		failed = false;

			if (task->has_work == NULL || task->has_work())
			{
				pgstat_report_activity(STATE_RUNNING, task->activity);
				failed = !obx_process_run(run_step, &step, &task->failures);
			}
			/* how soon depends on what was left */
			task->due = failed ? task->failures.retry_at : now + choose_interval(task, step.is_more_left);
		}
		next = Min(next, task->due);
	}
	return next;
}

void
obx_housekeeping_finish(void (*commit) (void))
{
	memset(&retention_round, 0, sizeof(retention_round));
	for (int i = 0; i < lengthof(tasks); i++)
	{
		bool		is_more_left;

		do
		{
			is_more_left = tasks[i].perform(false);
			commit();
		} while (is_more_left);
	}
}
