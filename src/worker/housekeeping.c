/*
 * What the sequencer's process does by the clock: partitions ahead of need,
 * retention, superseded rows of progress, keys that are past their window.
 *
 * Each task runs in a transaction of its own; one that fails is reported,
 * tried again ever less often, and keeps nothing else from running.  A task
 * that finds nothing to do takes no transaction id and writes nothing.
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
	void		(*perform) (void);
	int64		(*interval) (void);
	TimestampTz due;
} Task;

static uint64 known_progress = 0;

/* what the last step of these left */
static bool progress_left = false;
static bool windows_left = false;

/* What was found when tables below were looked at, once by each process. */
static ObxSpread spread = OBX_SPREAD_MORE;
static int64 spread_delay = 0;
static bool remnants_left = false;
static bool partitions_left = false;
static bool retention_left = false;

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
	if (partitions_left)
		return STEP_INTERVAL;
	if (partitions_refused > 0)
		return partitions_refused <= SOON_ATTEMPTS ? SHORTEST_INTERVAL : LONGEST_INTERVAL / 2;
	return bound_interval(obx_partition_interval * USECS_PER_SEC / 4);
}

static void
prepare_partitions(void)
{
	bool		urgent;
	ObxAhead	result = obx_ahead_prepare(true, &urgent);

	partitions_left = result == OBX_AHEAD_MADE;
	partitions_refused = result == OBX_AHEAD_LATER && urgent ? partitions_refused + 1 : 0;
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

	if (retention_left)
		return STEP_INTERVAL;
	if (obx_max_retention >= 0)
		retention = Min(retention, obx_max_retention);
	return bound_interval(retention * USECS_PER_SEC / 10);
}

static void
apply_retention(void)
{
	static ObxRetentionRound round;

	retention_left = obx_retention_step(&round, obx_retention_floor);
}

/* Superseded rows come with progress; some go only when old snapshots have. */
static int64
clean_interval(void)
{
	bool		progressed = obx_slot_own->progress != known_progress;

	known_progress = obx_slot_own->progress;
	if (progress_left || windows_left)
		return STEP_INTERVAL;
	return progressed ? CLEAN_INTERVAL : LONGEST_INTERVAL;
}

static void
clean_progress(void)
{
	progress_left = obx_progress_clean();
	windows_left = obx_window_clean();
}

static void
clean_remnants(void)
{
	remnants_left = obx_upkeep_clean();
}

static int64
remnants_interval(void)
{
	return remnants_left ? STEP_INTERVAL : LONGEST_INTERVAL;
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

static void
spread_rules(void)
{
	spread = obx_spread_step();
	spread_delay = spread == OBX_SPREAD_LOCKED ? bound_interval(spread_delay * 2) : 0;
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
		.perform = obx_once_forget,
		.interval = forget_interval
	},
};

/* obx_process_run's step */
static void
run_task(void *arg)
{
	const Task *task = arg;

	if (obx_process_lock_extension() == OBX_INSTALLED)
		task->perform();
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
			bool		failed = false;

			if (task->has_work == NULL || task->has_work())
			{
				pgstat_report_activity(STATE_RUNNING, task->activity);
				failed = !obx_process_run(run_task, task, &task->failures);
			}
			/* how soon depends on what was left */
			task->due = failed ? task->failures.retry_at : now + task->interval();
		}
		next = Min(next, task->due);
	}
	return next;
}
