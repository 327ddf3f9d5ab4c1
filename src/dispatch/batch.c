/*
 * Delivering a batch.
 *
 * All calls run in one subtransaction, because more would make every backend
 * of the server use pg_subtrans.  When a call fails, the subtransaction is
 * rolled back.  The events before the failing one are delivered again in a new
 * subtransaction, which is known to succeed, the failing event gets its row,
 * and the batch continues behind it.  So a batch with a few failures has a few
 * subtransactions, and one without failures has one.
 *
 * Calls of one transaction can make each other fail: by a temporary table that
 * exists already, by locks, by now().  So a failure counts only if the call
 * was the first of its transaction, in a session that was cleared.  If a later
 * call fails, the batch ends before it, and the event begins the next batch.
 * If it succeeds there, the other calls were the cause, and a number of events
 * are taken one by one, twice as many each time.
 *
 * Must not know transactions, nor what waits for the batch.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "base/guard.h"
#include "delivery/call.h"
#include "dispatch/batch.h"
#include "dispatch/retry.h"
#include "emit/context.h"

/* Failures after which a batch ends: each costs a subtransaction or two. */
#define OBX_BATCH_FAILURES	20

/* So many events are taken one by one at most, before company is tried again. */
#define OBX_SINGLY_LONGEST	1024

/* What one guarded run does. */
typedef struct Run
{
	ObxBatch   *batch;
	int			first;			/* deliver items from here */
	int			end;			/* up to but without this one */
	int			current;		/* the one being delivered */
	int			count;			/* how many the current call takes */
	bool		filtering;		/* the current call is the filter's */
	ObxFault	fault;			/* whose the error was that ended the run */
	bool		single;			/* one at a time, even if the target takes
								 * batches */
	bool		may_stop;		/* when others wait */
	int			calls;			/* of the subscriber's code, in this run */
	int			calls_before;	/* for items before the current one */
	bool		standing;		/* earlier runs of the batch had some that
								 * stand */
	TimestampTz began;			/* by obx_clock_now() */
	TimestampTz now;			/* when the current call began, or is about to */
} Run;

/* ---- one run ---- */

/* Does a retry wait for one before it in the batch?  Else it is the first of its key. */
static bool
is_behind(const ObxBatch *batch, const ObxItem *item)
{
	while (item->behind >= 0)
	{
		item = &batch->items[item->behind];
		if (item->state == OBX_ITEM_PARKED)
			return true;
		if (item->state == OBX_ITEM_FAILED)
			return item->delivery->open;
		/* one that was skipped waited for nothing, and says nothing */
		if (item->state != OBX_ITEM_SKIPPED && item->state != OBX_ITEM_LOST)
			return false;
	}
	return false;
}

/* Marks the items that must wait behind their key. */
static bool
park_if_blocked(ObxBatch *batch, ObxItem *item)
{
	if (batch->is_retry ? !is_behind(batch, item) :
		!obx_lane_is_blocked(batch->lane, item->key))
		return false;
	item->state = OBX_ITEM_PARKED;
	return true;
}

/* Should the session end now, it is by the events of this call. */
static void
note_call(const ObxBatch *batch, int64 position)
{
	if (batch->note != NULL)
		batch->note(position);
}

static void
begin_call(Run *run, int64 position)
{
	run->calls++;
	note_call(run->batch, position);
}

/*
 * Is the item to be delivered?  The filter comes first: what does not pass it
 * waits for nothing.
 */
static bool
is_deliverable(Run *run, ObxItem *item)
{
	ObxBatch   *batch = run->batch;

	if (item->state != OBX_ITEM_PENDING)
		return false;
	if (batch->filter != NULL)
	{
		bool		passes;

		begin_call(run, item->event.position);
		run->filtering = true;
		passes = obx_filter_passes(batch->filter, &item->event);
		run->filtering = false;
		if (!passes)
		{
			item->state = OBX_ITEM_SKIPPED;
			return false;
		}
	}
	return !park_if_blocked(batch, item);
}

/*
 * Do others wait?  Asked between two calls of the subscriber's code, with the
 * clock taken that the next one begins at.
 */
static bool
must_stop(Run *run)
{
	const ObxBatch *batch = run->batch;

	run->now = obx_clock_now();
	return run->may_stop && batch->yield != NULL && batch->yield(run->now - run->began);
}

/* Hands over all items of the run in one call. */
static void
deliver_together(Run *run)
{
	ObxBatch   *batch = run->batch;
	ObxTargetEvent *events = palloc((run->end - run->first) * sizeof(ObxTargetEvent));
	int			count = 0;

	/* a filter that fails has one event, like a call for it alone */
	run->count = 1;
	for (run->current = run->first; run->current < run->end; run->current++)
	{
		ObxItem    *item = &batch->items[run->current];

		run->calls_before = run->calls;
		CHECK_FOR_INTERRUPTS();
		if (is_deliverable(run, item))
		{
			events[count++] = item->event;
			item->state = OBX_ITEM_DONE;
		}
		if (batch->filter != NULL && must_stop(run))
			run->end = run->current + 1;
	}
	run->current = run->first;
	run->calls_before = 0;
	run->count = run->end - run->first;
	note_call(batch, count == 1 ? events[0].position : OBX_WATCHER_SEVERAL);
	if (count > 0)
		obx_call_deliver(batch->target, events, count, obx_clock_now());
	run->current = run->end;
}

static void
deliver_singly(Run *run)
{
	ObxBatch   *batch = run->batch;

	run->count = 1;
	run->now = obx_clock_now();
	for (run->current = run->first; run->current < run->end; run->current++)
	{
		ObxItem    *item = &batch->items[run->current];

		run->calls_before = run->calls;
		CHECK_FOR_INTERRUPTS();
		if (is_deliverable(run, item))
		{
			if (batch->filter != NULL)
				run->now = obx_clock_now();
			if (batch->target != NULL)
			{
				begin_call(run, item->event.position);
				obx_call_deliver(batch->target, &item->event, 1, run->now);
			}
			item->state = OBX_ITEM_DONE;
		}
		else if (batch->filter == NULL)
			continue;
		if (must_stop(run))
		{
			run->current++;
			return;
		}
	}
}

static void
deliver_run(void *arg)
{
	Run		   *run = arg;

	if (run->batch->target != NULL && run->batch->target->takes_batch && !run->single &&
		run->batch->items[run->first].event.position > run->batch->lane->singly_until)
		deliver_together(run);
	else
		deliver_singly(run);
}

/* Runs items [first, end); NULL if all went well, then run->current tells how far. */
static ErrorData *
guard_run(Run *run)
{
	ErrorData  *error;
	bool		is_nested = obx_context_current() != NULL;

	run->filtering = false;
	run->calls = run->calls_before = 0;
	error = obx_guard_catch(deliver_run, run, CurrentMemoryContext, &run->fault);
	if (!is_nested)
		obx_context_leave();
	if (run->batch->target != NULL && run->batch->target->end_run != NULL)
		run->batch->target->end_run(run->batch->target, error != NULL);
	if (error == NULL)
		return NULL;

	if (run->batch->abandon_session != NULL)
		run->batch->abandon_session();
	if (run->batch->filter != NULL)
		obx_filter_reset(run->batch->filter);
	for (int i = run->first; i < run->end; i++)
		if (run->batch->items[i].state != OBX_ITEM_FAILED &&
			run->batch->items[i].state != OBX_ITEM_LOST)
			run->batch->items[i].state = OBX_ITEM_PENDING;
	return error;
}

/* ---- failures ---- */

static void
describe_event(void *arg)
{
	Run		   *run = arg;

	if (run->current < run->batch->nitems)
		errcontext("subscription \"%s\", event at position " INT64_FORMAT,
				   run->batch->subscription->name,
				   run->batch->items[run->current].event.position);
}

/* True if an error that is nobody's fault may be tried again at once. */
static bool
may_try_again(ObxBatch *batch, const ObxItem *item)
{
	ObxLane    *lane = batch->lane;

	if (lane->again_position != item->event.position)
	{
		lane->again_position = item->event.position;
		lane->again_count = 0;
	}
	return ++lane->again_count < OBX_TRIES_AT_ONCE;
}

/* ---- poison ---- */

/* An attempt that was counted and ended without a word: it ended its session. */
static void
set_session_error(ErrorData *error)
{
	memset(error, 0, sizeof(ErrorData));
	error->sqlerrcode = ERRCODE_CRASH_SHUTDOWN;
	error->message = pstrdup("the session ended while the event was being handled");
}

/* Has the event of a retry used up its attempts by ending its sessions? */
static bool
is_exhausted(const ObxBatch *batch, const ObxItem *item)
{
	const ObxDelivery *delivery = item->delivery;

	return delivery != NULL && !item->counted && delivery->sqlstate != NULL &&
		delivery->attempts >= batch->subscription->max_attempts &&
		strcmp(delivery->sqlstate, unpack_sql_state(ERRCODE_CRASH_SHUTDOWN)) == 0;
}

/* Makes dead letters of them, without a call. */
static void
fail_exhausted(ObxBatch *batch)
{
	for (int i = 0; i < batch->nitems; i++)
	{
		ObxItem    *item = &batch->items[i];
		ErrorData	error;

		if (!is_exhausted(batch, item))
			continue;
		set_session_error(&error);
		item->delivery->attempts--; /* the last one was counted when it began */
		obx_item_fail(batch, item, OBX_VERDICT_DEAD, &error);
	}
}

bool
obx_batch_mark(ObxBatch *batch, ObxProgress *progress, int64 *position)
{
	ObxItem    *item = &batch->items[0];
	ObxDelivery *delivery = item->delivery;
	ErrorData	error;

	Assert(batch->nitems == 1);
	if (item->state == OBX_ITEM_LOST || park_if_blocked(batch, item) ||
		is_exhausted(batch, item))
		return false;

	set_session_error(&error);
	if (delivery == NULL)
		delivery = obx_item_make_delivery(batch, item);
	obx_retry_note_failure(batch->subscription, OBX_VERDICT_FAILURE, &error, delivery);
	/* that it was the last attempt counts when it has ended the session */
	delivery->state = OBX_DELIVERY_RETRY;
	delivery->open = true;
	if (delivery->next_at == DT_NOEND)
		delivery->next_at = GetCurrentTimestamp();

	if (item->delivery != NULL)
		obx_delivery_update(delivery);
	else
	{
		obx_delivery_insert(delivery);
		progress->position = item->event.position;
		progress->event_id = item->event.id;
	}
	obx_lane_forget(batch->lane);
	*position = item->event.position;
	return true;
}

/* ---- the batch ---- */

/*
 * What the error of the current item means.  What is not the item's, or would
 * be the same for any other, is raised again and ends the pass.
 */
static ObxVerdict
judge_error(ObxBatch *batch, const Run *run, ErrorData *error)
{
	ObxVerdict	verdict = obx_retry_judge(error->sqlerrcode);

	if (run->fault == OBX_FAULT_SESSION)
		ReThrowError(error);
	if (run->fault == OBX_FAULT_LIMIT)
		error->message = psprintf("%s exceeded its timeout of %g s",
								  run->filtering ? "filter" :
								  batch->subscription->kind == OBX_KIND_AGGREGATE ? "reducer" :
								  "handler",
								  obx_call_time_limit(batch->subscription) / 1e6);

	if (verdict == OBX_VERDICT_INFRASTRUCTURE)
		ReThrowError(error);
	if (verdict == OBX_VERDICT_AGAIN && run->count == 1 &&
		!may_try_again(batch, &batch->items[run->current]))
		verdict = OBX_VERDICT_FAILURE;
	return verdict;
}

/* A failure as it was met; it may be another one's when what came before is repeated. */
typedef struct Failure
{
	ErrorData  *error;
	ObxVerdict	verdict;
	bool		filtering;
	bool		in_company;		/* other calls came before, in the same
								 * transaction */
} Failure;

static void
judge_run(const Run *run, ErrorData *error, Failure *failure)
{
	failure->error = error;
	failure->verdict = judge_error(run->batch, run, error);
	failure->filtering = run->filtering;
	failure->in_company = run->standing || run->calls_before > 0;
}

/*
 * What went well before the failing item is delivered again, one by one;
 * should that fail, it is the failing one.
 */
static void
repeat_prefix(Run *run, Failure *failure)
{
	bool		single = run->single;

	run->single = true;
	run->may_stop = false;
	while (run->current > run->first)
	{
		ErrorData  *earlier;

		run->end = run->current;
		earlier = guard_run(run);
		if (earlier == NULL)
		{
			run->standing |= run->calls > 0;
			break;
		}
		judge_run(run, earlier, failure);
	}
	run->single = single;
}

/*
 * Does it only count when the event fails alone?  Not where a session that
 * calls us runs on, and so cannot be cleared.
 */
static bool
must_try_alone(const ObxBatch *batch, const Failure *failure)
{
	return failure->in_company && batch->abandon_session != NULL &&
		(failure->verdict == OBX_VERDICT_FAILURE || failure->verdict == OBX_VERDICT_DEAD);
}

/*
 * Deals with items from batch->reached on, up to and with the next failing one.
 * Returns false when the batch must end there.
 */
static bool
deliver_stretch(ObxBatch *batch, Run *run)
{
	ErrorData  *error;
	Failure		failure;
	ObxItem    *item;

	run->first = batch->reached;
	run->end = batch->nitems;
	run->may_stop = true;
	error = guard_run(run);
	if (error == NULL)
	{
		batch->reached = run->current;
		return false;
	}
	judge_run(run, error, &failure);

	/* a batch that failed in one call is repeated event by event */
	if (run->count > 1)
	{
		run->single = true;
		batch->lane->singly_until = batch->items[batch->nitems - 1].event.position;
		return true;
	}

	repeat_prefix(run, &failure);
	batch->reached = run->current;
	item = &batch->items[batch->reached];
	if (failure.verdict == OBX_VERDICT_AGAIN)
		return false;

	/* an event that must wait anyway is filtered again when its turn comes */
	if (failure.filtering && park_if_blocked(batch, item))
	{
		batch->reached++;
		return true;
	}
	if (must_try_alone(batch, &failure))
	{
		batch->lane->accused = item->event.position;
		return false;
	}
	batch->reached++;
	obx_item_fail(batch, item, failure.verdict, failure.error);
	return batch->subscription->ordering != OBX_ORDERING_STRICT &&
		batch->failures < OBX_BATCH_FAILURES &&
		(batch->yield == NULL || !batch->yield(obx_clock_now() - run->began));
}

void
obx_batch_take_singly(ObxLane *lane)
{
	lane->singly_next = Min(Max(2 * lane->singly_next, 1), OBX_SINGLY_LONGEST);
	lane->singly = lane->singly_next;
}

/* Learns whether events of the lane get in each other's way. */
static void
judge_company(const ObxBatch *batch, int64 accused)
{
	ObxLane    *lane = batch->lane;

	lane->singly = Max(lane->singly - batch->reached, 0);
	if (accused == batch->items[0].event.position && batch->items[0].state == OBX_ITEM_DONE)
		obx_batch_take_singly(lane);
	else if (batch->reached > 1 && lane->accused == 0)
		lane->singly_next /= 2;
}

void
obx_batch_deliver(ObxBatch *batch)
{
	Run			run = {.batch = batch,.began = obx_clock_now()};
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = describe_event,
		.arg = &run
	};
	int64		accused = batch->lane->accused;

	batch->lane->accused = 0;
	fail_exhausted(batch);
	error_context_stack = &context;
	while (batch->reached < batch->nitems && deliver_stretch(batch, &run))
		CHECK_FOR_INTERRUPTS();
	error_context_stack = context.previous;
	note_call(batch, OBX_WATCHER_SEVERAL);
	if (batch->abandon_session != NULL)
		judge_company(batch, accused);
}
