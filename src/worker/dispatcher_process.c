/*
 * A dispatcher's process: serves the lanes of one owner in one database.
 *
 * Connects as the owner, because what it calls is the owner's code: a session
 * is the only sandbox that holds at commit too.  Takes one lane at a time, has
 * one pass over it made, gives it back and takes the one that waits longest,
 * so that lanes take turns.  Stays a while when there is nothing to do, for
 * the sake of latency, and leaves when its place is needed elsewhere.
 *
 * Must not know what a pass does.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "dispatch/session.h"
#include "log/generation.h"
#include "worker/cheap_lane.h"
#include "worker/process.h"
#include "worker/queue.h"

/* A batch ends after that long when others wait, and when nobody does. */
#define CONTENDED_TURN OBX_MS(5)
#define LONGEST_TURN OBX_MS(50)
#define CONTENTION_CHECK OBX_MS(1)

/*
 * A dispatcher that another owner or database needs stays that long, or the
 * starting of processes would be all that gets done.
 */
#define PROCESS_TURN OBX_MS(50)

#define IDLE_LIFE OBX_MS(60000)
#define STATISTICS_DELAY OBX_MS(1000)

PGDLLEXPORT void obx_dispatcher_main(Datum arg);

static TimestampTz first_claim = 0;
static int64 contention_checked = 0;

static void
begin_transaction(void)
{
	ObxInstalled installed;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	installed = obx_process_lock_extension();
	if (installed == OBX_INSTALLED &&
		SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(GetSessionUserId())))
		return;

	/* the extension or our role is going: nothing is left to do here */
	AbortCurrentTransaction();
	obx_process_leave(OBX_EXIT_LEFT);
}

static void
commit_transaction(void)
{
	CommitTransactionCommand();
	pgstat_report_stat(false);
}

static void
abort_transaction(void)
{
	AbortCurrentTransaction();
}

static const ObxTransactionOps transaction_ops = {
	.begin = begin_transaction,
	.commit = commit_transaction,
	.abort = abort_transaction,
	.clear_session = obx_session_clear,
	.abandon_session = obx_session_abandon,
	.owns_session = true
};

static bool
must_leave(void)
{
	switch (obx_slot_own->leave)
	{
		case OBX_LEAVE_NOT:
			return false;
		case OBX_LEAVE_ROOM:
		case OBX_LEAVE_TURN:
			return first_claim == 0 || obx_slot_own->state == OBX_SLOT_IDLE ||
				obx_clock_now() - first_claim >= PROCESS_TURN;
		case OBX_LEAVE_NOW:
			break;
	}
	return true;
}

/* ObxWatcherYield */
static bool
is_turn_over(int64 elapsed)
{
	if (must_leave() || elapsed >= LONGEST_TURN)
		return true;
	if (elapsed < CONTENDED_TURN || elapsed < contention_checked + CONTENTION_CHECK)
		return false;
	contention_checked = elapsed;
	return obx_queue_is_contended();
}

/* ObxWatcherNote */
static void
note_under_way(int64 position)
{
	obx_slot_own->under_way = position;
}

/* One pass over one lane. */
static void
serve_lane(const ObxLaneClaim *claim)
{
	static ObxFailures failures = {.what = "could not dispatch"};
	MemoryContext context = CurrentMemoryContext;
	ObxPassRequest request = {
		.subscription = claim->subscription,
		.lane = claim->lane,
		.shared = claim->shared,
		.suspect = claim->suspect,
		.careful = claim->careful,
		.yield = is_turn_over,
		.note = note_under_way
	};
	ObxPassResult result = {.outcome = OBX_PASS_BACKOFF,.position = -1,.due = DT_NOEND};

	pgstat_report_activity(STATE_RUNNING,
						   psprintf("dispatching subscription \"%s\" lane %d",
									claim->name, claim->lane));
	contention_checked = 0;
	obx_cheap_lane_begin();

	PG_TRY();
	{
		obx_pass_run(&transaction_ops, &request, &result);
		failures.count = 0;
	}
	PG_CATCH();
	{
		obx_process_recover(&failures, context);
		result.outcome = OBX_PASS_BACKOFF;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	obx_queue_release(claim, &result, obx_cheap_lane_end(result.read));
}

/* Serves whatever is READY for us; on return we are idle, to look again then. */
static TimestampTz
serve_lanes(void)
{
	MemoryContext context = CurrentMemoryContext;
	ObxLaneClaim claim;
	TimestampTz look_at;

	while (obx_queue_claim(&claim, &look_at))
	{
		if (first_claim == 0)
			first_claim = obx_clock_now();
		serve_lane(&claim);
		MemoryContextReset(context);
		obx_process_check();
		if (must_leave())
			obx_process_leave(OBX_EXIT_LEFT);
	}
	return look_at;
}

void
obx_dispatcher_main(Datum arg)
{
	TimestampTz idle_since = 0;
	bool		reported = true;	/* statistics passed on */

	obx_slot_attach(OBX_ROLE_DISPATCHER);
	obx_process_connect(obx_slot_own->database, obx_slot_own->owner, "pg_outbox dispatcher");
	obx_process_override_settings(false);
	obx_slot_set_connected();
	obx_generation_leave_loaded(true);
	MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "pg_outbox dispatcher",
												ALLOCSET_DEFAULT_SIZES));

	for (;;)
	{
		TimestampTz now;
		TimestampTz look_at;

		obx_process_check();
		if (must_leave())
			obx_process_leave(OBX_EXIT_LEFT);

		first_claim = 0;
		look_at = serve_lanes();

		now = obx_clock_now();
		if (first_claim != 0 || idle_since == 0)
		{
			idle_since = now;
			reported = false;
			pgstat_report_activity(STATE_IDLE, NULL);
		}
		if (now - idle_since >= IDLE_LIFE)
			obx_process_leave(OBX_EXIT_LEFT);
		if (!reported && now - idle_since >= STATISTICS_DELAY)
		{
			pgstat_report_stat(true);
			reported = true;
		}
		obx_process_wait(Min(look_at,
							 idle_since + (reported ? IDLE_LIFE : STATISTICS_DELAY)));
	}
}
