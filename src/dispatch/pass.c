/*
 * One pass: at most one batch of one lane, in one transaction.
 *
 * The lane's lock is taken first and the snapshot after it, so the pass reads
 * the state that the pass before it left.  The effects of handlers, the
 * delivery rows and the progress commit together: this gives exactly-once
 * effects.
 *
 * Must not know loops, latches, signals.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/guard.h"
#include "delivery/targets.h"
#include "dispatch/batch.h"
#include "dispatch/due_windows.h"
#include "dispatch/pass.h"
#include "dispatch/session.h"
#include "dispatch/stream.h"
#include "log/generation.h"
#include "log/segment.h"

/* The pass being made; everything in it lives in "memory". */
typedef struct Pass
{
	const ObxTransactionOps *ops;
	MemoryContext memory;
	const ObxPassRequest *request;
	bool		counted;		/* the batch is an event whose attempt is
								 * counted before the call */
	ObxSubscription *subscription;
	ObxProgress progress;
	ObxLane    *lane;
	ObxBatch   *batch;
	int64		lost_until;		/* as in the batch of new events */
	TimestampTz settled;		/* what got its position before is seen */
	ObxDueWindows *windows;		/* of an aggregate, to be completed */
	bool		looked;			/* for all windows that are due now */
	TimestampTz next_window;	/* then look again; 0 for never */
	ObxPassResult *result;
} Pass;

/* ---- preparing ---- */

/* Reads the lane's state; false if it is not to be served. */
static bool
load_state(Pass *pass, int32 id, int lane)
{
	/* should the database be a copy, its subscriptions are paused first */
	(void) obx_generation_follow();
	pass->subscription = obx_subscription_find(id);
	if (pass->subscription == NULL || pass->subscription->paused ||
		pass->subscription->kind == OBX_KIND_PULL ||
		pass->subscription->owner != GetUserId() ||
		lane >= pass->subscription->concurrency ||
		!obx_progress_find(id, lane, &pass->progress))
	{
		pass->result->outcome = OBX_PASS_STOPPED;
		return false;
	}
	pass->lane = obx_lane_load(pass->subscription, lane, pass->progress.version);
	return true;
}

/*
 * Under "strict", new events wait for every open one; but for one that several
 * lanes have left before where their successor begins.
 */
static bool
is_turn_of(const Pass *pass, bool retries)
{
	return retries == (obx_lane_first_strict(pass->lane) <= pass->progress.position + 1);
}

/* Makes the pass's batch anew and collects retries or new events. */
static bool
collect_batch(Pass *pass, bool retries, int limit, int64 before)
{
	pass->batch = obx_batch_make(pass->subscription, pass->lane, pass->request->yield);
	pass->batch->note = pass->request->note;
	pass->batch->abandon_session = pass->ops->abandon_session;
	pass->batch->pins = true;
	pass->batch->is_shared = pass->request->shared;
	pass->batch->retry_before = before;
	pass->batch->read_before = Min(before, obx_lane_first_strict(pass->lane));
	return retries ? obx_batch_collect_retries(pass->batch, limit) :
		obx_batch_collect_new(pass->batch, &pass->progress, limit);
}

/* Is the suspect a retry by now, or else a new event? */
static bool
suspect_is_retry(const Pass *pass)
{
	return pass->request->suspect <= pass->progress.position;
}

/*
 * Likewise for the kind of events that the suspect is of: those before it as
 * ever, then it alone; a retry whose time has not come is not waited for.
 */
static bool
collect_around_suspect(Pass *pass, bool retries, int limit)
{
	int64		suspect = pass->request->suspect;

	if (collect_batch(pass, retries, limit, suspect) ||
		pass->batch->lost_until > 0 ||
		(!retries && pass->batch->read_position != pass->progress.position))
		return pass->batch->nitems > 0;
	if (collect_batch(pass, retries, 1, PG_INT64_MAX) &&
		pass->batch->items[0].event.position == suspect)
	{
		pass->counted = true;
		return true;
	}
	return retries ? collect_batch(pass, retries, limit, PG_INT64_MAX) :
		pass->batch->nitems > 0;
}

/* Collects what is next: retries and new events take turns. */
static bool
collect(Pass *pass)
{
	const ObxPassRequest *request = pass->request;
	int			limit = pass->subscription->batch_size;
	bool		retries_first = !pass->lane->retried_last;

	if (request->max_events > 0)
		limit = (int) Min(limit, request->max_events);
	if (request->careful > 0)
		limit = Min(limit, request->careful);
	if (pass->lane->singly > 0)
		limit = 1;
	for (int i = 0; i < 2; i++)
	{
		bool		retries = (i == 0) == retries_first;
		bool		found;

		if (pass->subscription->ordering == OBX_ORDERING_STRICT && !is_turn_of(pass, retries))
			continue;
		pass->lane->retried_last = retries;
		if (request->suspect > 0 && suspect_is_retry(pass) == retries)
			found = collect_around_suspect(pass, retries, limit);
		else
			found = collect_batch(pass, retries, limit, PG_INT64_MAX);
		if (request->careful == 1)
			pass->counted = found;
		if (found)
			return true;
		if (!retries)
			pass->lost_until = pass->batch->lost_until;
		/* nothing that matches, but the progress may move on */
		if (!retries && pass->batch->read_position != pass->progress.position)
			return true;
	}
	return false;
}

/*
 * Going on behind the gap would hide it: the subscription stands until someone
 * says from where it shall go on.
 */
static void
report_loss(Pass *pass)
{
	char	   *error = pass->progress.position < 0 ? OBX_UNKNOWN_ERROR : psprintf("positions " INT64_FORMAT " to " INT64_FORMAT
																				   " were dropped by outbox.max_retention before they were consumed",
																				   pass->progress.position + 1, pass->lost_until);

	if (obx_failure_record(pass->subscription->id, 0, error))
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("subscription \"%s\" lost events: %s", pass->subscription->name, error),
				 errhint("outbox.seek() lets it go on.")));
	pass->result->outcome = OBX_PASS_BROKEN;
}

static void
open_target(void *arg)
{
	Pass	   *pass = arg;

	/* nothing keeps a role from being dropped while its sessions go on */
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(pass->subscription->owner)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("the owner does not exist any more"),
				 errdetail("The subscription's handler and filter would run as that role."),
				 errhint("Give it another owner with outbox.alter_subscription().")));
	pass->batch->target = obx_targets_open(pass->subscription);
	pass->batch->filter = obx_filter_open(pass->subscription, pass->batch->target->tupdesc);
}

/* Opens target and filter; false if the subscription is broken. */
static bool
require_target(Pass *pass)
{
	ErrorData  *error = obx_guard_call(open_target, pass, pass->memory);

	if (error == NULL)
	{
		if (obx_failure_clear(pass->subscription->id))
			ereport(LOG,
					(errmsg("subscription \"%s\" runs again", pass->subscription->name)));
		return true;
	}

	/* it is tried every few seconds, and said once */
	if (obx_failure_record(pass->subscription->id, 0, error->message))
		ereport(LOG,
				(errcode(error->sqlerrcode),
				 errmsg("subscription \"%s\" cannot run: %s", pass->subscription->name,
						error->message),
				 error->hint ? errhint("%s", error->hint) : 0));
	pass->result->outcome = OBX_PASS_BROKEN;
	return false;
}

/* ---- windows ---- */

/* May there be windows to complete? */
static bool
has_due_windows(const Pass *pass)
{
	return obx_due_windows_exist(pass->subscription, pass->progress.due, GetCurrentTimestamp());
}

/*
 * How far time has come for the lane: what got its position before that has
 * been read.  At the end of the log that is the clock's time, before it that of
 * the last event.
 */
static TimestampTz
lane_time(const Pass *pass, bool at_end)
{
	const ObxSegment *segment;

	if (at_end)
		return pass->settled;
	segment = obx_segment_find_at(pass->progress.position, GetActiveSnapshot());
	return segment != NULL && segment->first_position <= pass->progress.position ?
		segment->time : DT_NOBEGIN;
}

/* Lists the windows that are due by the lane's time; true if there is work. */
static bool
collect_windows(Pass *pass, bool at_end)
{
	TimestampTz time = lane_time(pass, at_end);
	ObxDueWindows *windows;
	int			limit = OBX_WINDOWS_AT_ONCE;

	if (!obx_due_windows_exist(pass->subscription, pass->progress.due, time))
		return false;
	windows = palloc0(sizeof(ObxDueWindows));
	windows->subscription = pass->subscription;
	windows->lane = pass->lane;
	if (pass->request->max_events > 0)
		limit = (int) Min(limit, pass->request->max_events);
	obx_due_windows_list(windows, pass->progress.due, time, limit);

	pass->looked = at_end;
	pass->next_window = windows->next;
	/* those that are left wait behind their keys */
	if (windows->count == 0 && windows->bound == pass->progress.due)
		return false;
	pass->windows = windows;
	return true;
}

/* What the target has kept goes with the version of progress to come. */
static void
save_target(Pass *pass)
{
	ObxTarget  *target = pass->batch->target;

	if (target == NULL || target->save == NULL)
		return;
	pass->progress.due = obx_scheduled_earlier(pass->progress.due,
											   target->save(target, pass->progress.version + 1));
}

/* ---- the transaction ---- */

/*
 * unsubscribe() does not wait for handlers: one that ran meanwhile is undone,
 * unless it was the handler itself that unsubscribed.  In either case nothing
 * of a subscription that is gone is written.
 */
static bool
is_still_wanted(Pass *pass)
{
	if (obx_subscription_find(pass->subscription->id) != NULL)
		return true;
	pass->result->outcome = OBX_PASS_STOPPED;
	obx_lane_forget(pass->lane);
	return false;
}

/*
 * Would a crash that takes the batch's commit with it take nothing else?  Then
 * events are only read again; or those are notified again who have connected
 * since, for a crash ends all connections.  What code of the owner does is
 * the owner's to say.
 */
static bool
leaves_nothing(const Pass *pass)
{
	return pass->batch->nitems == 0 ||
		(pass->subscription->kind == OBX_KIND_CHANNEL && pass->subscription->filter == NULL);
}

/* Delivers what the batch holds; false if the target is broken. */
static bool
deliver(Pass *pass)
{
	if (leaves_nothing(pass))
		obx_session_commit_later();
	if (pass->batch->nitems == 0)
		return true;
	obx_session_prepare(pass->subscription);
	if (!require_target(pass))
		return false;
	obx_batch_deliver(pass->batch);
	pass->ops->clear_session();
	return true;
}

/* Writes what became of the batch; false if the transaction must be undone. */
static bool
write_state(Pass *pass)
{
	ObxBatch   *batch = pass->batch;
	int64		position = pass->progress.position;

	if (!is_still_wanted(pass))
		return obx_subscription_is_deleted_here(pass->subscription->id);
	if (obx_batch_write(batch, &pass->progress))
	{
		save_target(pass);
		obx_progress_advance(&pass->progress);
	}
	if (pass->lane->version >= 0)
		pass->lane->version = pass->progress.version;
	else
		pass->lane = obx_lane_load(pass->subscription, pass->lane->key.lane,
								   pass->progress.version);

	pass->result->handled += batch->reached;
	pass->result->read += pass->progress.position - position;
	if (batch->is_retry || batch->reached < batch->nitems || !batch->read_all)
		pass->result->outcome = OBX_PASS_MORE;
	return true;
}

/* Completes windows; false if the transaction must be undone. */
static bool
complete_windows(Pass *pass)
{
	ObxDueWindows *windows = pass->windows;

	pass->batch = obx_batch_make(pass->subscription, pass->lane, pass->request->yield);
	if (windows->count > 0)
	{
		obx_session_prepare(pass->subscription);
		if (!require_target(pass))
			return true;
		windows->target = pass->batch->target;
		obx_due_windows_complete(windows);
		pass->ops->clear_session();
	}
	if (!is_still_wanted(pass))
		return false;
	pass->progress.due = windows->bound;
	save_target(pass);
	obx_progress_advance(&pass->progress);
	pass->lane->version = pass->progress.version;
	pass->result->handled += windows->count;
	pass->result->outcome = OBX_PASS_MORE;
	return true;
}

/*
 * Counts the attempt at the batch's one event, commits that, and makes the
 * batch anew in a second transaction: should the call end the session or the
 * server, the attempt stays counted.  False if there is nothing to call for.
 */
static bool
count_first(Pass *pass)
{
	int32		subscription = pass->subscription->id;
	int			lane = pass->lane->key.lane;
	int64		position;
	bool		marked = obx_batch_mark(pass->batch, &pass->progress, &position);

	if (!marked)
		return true;
	obx_progress_advance(&pass->progress);
	pass->ops->commit();

	pass->ops->begin();
	MemoryContextSwitchTo(pass->memory);
	if (!obx_lane_lock(subscription, lane, false) || !load_state(pass, subscription, lane))
		return false;
	pass->batch = obx_batch_make(pass->subscription, pass->lane, pass->request->yield);
	pass->batch->note = pass->request->note;
	pass->batch->abandon_session = pass->ops->abandon_session;
	PushActiveSnapshot(GetTransactionSnapshot());
	obx_batch_collect_marked(pass->batch, position);
	PopActiveSnapshot();
	return true;
}

/* When there is something to do next, if no event comes. */
static void
set_due(Pass *pass)
{
	TimestampTz window = pass->looked ? pass->next_window : pass->progress.due;

	pass->result->due = obx_lane_due(pass->lane);
	if (window != 0)
		pass->result->due = Min(pass->result->due, window);
	if (pass->result->outcome == OBX_PASS_IDLE && !pass->looked && has_due_windows(pass))
		pass->result->outcome = OBX_PASS_MORE;
}

/* Has the suspect been handled, by a session that lives, or is it gone? */
static bool
is_cleared(const Pass *pass)
{
	if (pass->request->suspect == 0)
		return false;
	return pass->counted ||
		(suspect_is_retry(pass) && !obx_lane_has(pass->lane, pass->request->suspect));
}

/* The work of the pass, inside its transaction; false if it must be undone. */
static bool
serve_lane(Pass *pass, int32 subscription, int lane)
{
	bool		found = false;

	if (!obx_lane_lock(subscription, lane, false))
	{
		pass->result->outcome = OBX_PASS_LOCKED;
		return true;
	}
	if (!load_state(pass, subscription, lane))
		return true;

	if (pass->progress.position < 0)
	{
		report_loss(pass);
		return true;
	}

	if (has_due_windows(pass))
	{
		pass->settled = GetCurrentTimestamp();
		obx_segment_wait_for_writer();
	}
	PushActiveSnapshot(GetTransactionSnapshot());
	if (pass->settled == 0 || !collect_windows(pass, false))
	{
		found = collect(pass);
		if (!found && pass->lost_until == 0 && pass->settled != 0)
			(void) collect_windows(pass, true);
	}
	PopActiveSnapshot();
	if (!found && pass->lost_until > 0)
	{
		report_loss(pass);
		return true;
	}
	pass->result->outcome = OBX_PASS_IDLE;

	if (pass->windows != NULL)
	{
		if (!complete_windows(pass))
			return false;
	}
	else if (found)
	{
		if (pass->counted && !count_first(pass))
			return true;
		if (!deliver(pass))
			return true;
		if (!write_state(pass))
			return false;
	}
	pass->result->position = pass->progress.position;
	pass->result->cleared = is_cleared(pass);
	set_due(pass);
	return true;
}

static void
report_trouble(const char *subscription, const ErrorData *error)
{
	ereport(obx_is_background_worker() ? LOG : WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not serve subscription \"%s\": %s", subscription, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->hint ? errhint("%s", error->hint) :
			 errhint("It is tried again; no event counts this as an attempt.")));
}

void
obx_pass_run(const ObxTransactionOps *ops, const ObxPassRequest *request,
			 ObxPassResult *result)
{
	MemoryContext caller = CurrentMemoryContext;
	Pass	   *pass;
	MemoryContext memory = AllocSetContextCreate(caller, "pg_outbox pass",
												 ALLOCSET_DEFAULT_SIZES);

	pass = MemoryContextAllocZero(memory, sizeof(Pass));
	pass->ops = ops;
	pass->memory = memory;
	pass->request = request;
	obx_stream_release();
	pass->result = result;
	result->position = -1;
	result->handled = 0;
	result->read = 0;
	result->cleared = false;
	result->due = DT_NOEND;

	PG_TRY();
	{
		if (ops->owns_session)
			obx_session_begin();
		ops->begin();
		MemoryContextSwitchTo(memory);
		if (serve_lane(pass, request->subscription, request->lane))
			ops->commit();
		else
		{
			ops->abort();
			ops->abandon_session();
		}
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		ops->abort();
		ops->abandon_session();
		if (pass->lane != NULL)
			obx_lane_forget(pass->lane);
		if (pass->batch != NULL && pass->batch->nitems > 1)
			obx_batch_take_singly(pass->lane);
		MemoryContextSwitchTo(caller);
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && !ops->owns_session)
			ReThrowError(error);
		report_trouble(pass->subscription != NULL ? pass->subscription->name : "?", error);
		result->outcome = OBX_PASS_BACKOFF;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(caller);
	obx_stream_release();
	MemoryContextDelete(memory);
}
