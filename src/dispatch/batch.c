/*
 * Delivering a batch.
 *
 * All calls run in one subtransaction, for more would send every backend of
 * the server to pg_subtrans.  When a call fails, the subtransaction goes, the
 * events before it are delivered again in a new one, which now is known to
 * end well, and the failing event gets its row; then the batch goes on behind
 * it.  So a batch with a few failures has a few subtransactions, and one
 * without has one.
 *
 * Must not know transactions, nor who waits.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/guard.h"
#include "dispatch/batch.h"
#include "dispatch/retry.h"
#include "log/context.h"

/* Failures after which a batch ends: each costs a subtransaction or two. */
#define OBX_BATCH_FAILURES	20

/* What one guarded run does. */
typedef struct Run
{
	ObxBatch   *batch;
	int			first;			/* deliver items from here */
	int			end;			/* up to but without this one */
	int			current;		/* the one being delivered */
	int			count;			/* how many the current call takes */
	bool		filtering;		/* the current call is the filter's */
	bool		single;			/* one at a time, even if the target takes
								 * batches */
	bool		may_stop;		/* when others wait */
	TimestampTz began;
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
		!obx_lane_is_blocked(batch->lane, item->has_key, item->key_hash))
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

		note_call(batch, item->event.position);
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

	run->now = GetCurrentTimestamp();
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
	run->count = run->end - run->first;
	note_call(batch, count == 1 ? events[0].position : OBX_PASS_SEVERAL);
	if (count > 0)
		obx_target_deliver(batch->target, events, count, GetCurrentTimestamp());
	run->current = run->end;
}

static void
deliver_singly(Run *run)
{
	ObxBatch   *batch = run->batch;

	run->count = 1;
	run->now = GetCurrentTimestamp();
	for (run->current = run->first; run->current < run->end; run->current++)
	{
		ObxItem    *item = &batch->items[run->current];

		CHECK_FOR_INTERRUPTS();
		if (is_deliverable(run, item))
		{
			if (batch->filter != NULL)
				run->now = GetCurrentTimestamp();
			if (batch->target != NULL)
			{
				note_call(batch, item->event.position);
				obx_target_deliver(batch->target, &item->event, 1, run->now);
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

	if (run->batch->target != NULL && run->batch->target->takes_batch && !run->single)
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
	error = obx_guard_call(deliver_run, run, CurrentMemoryContext);
	if (!is_nested)
		obx_context_leave();
	if (run->batch->target != NULL && run->batch->target->end_run != NULL)
		run->batch->target->end_run(run->batch->target, error != NULL);
	if (error == NULL)
		return NULL;

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

static ObxDelivery *
make_delivery(ObxBatch *batch, const ObxItem *item)
{
	ObxDelivery *delivery = palloc0(sizeof(ObxDelivery));

	delivery->subscription = batch->subscription->id;
	delivery->lane = batch->lane->key.lane;
	delivery->position = item->event.position;
	delivery->state = OBX_DELIVERY_PARKED;
	delivery->open = true;
	delivery->has_key = item->has_key;
	delivery->key_hash = item->key_hash;
	delivery->xid = item->xid;
	delivery->event_id = item->event.id;
	delivery->next_at = DT_NOEND;
	return delivery;
}

static void
report_failure(ObxBatch *batch, const ObxItem *item, const ErrorData *error)
{
	const ObxDelivery *delivery = item->delivery;

	ereport(delivery->state == OBX_DELIVERY_DEAD ? LOG : DEBUG1,
			(errcode(error->sqlerrcode),
			 errmsg("event at position " INT64_FORMAT " failed in subscription \"%s\": %s",
					item->event.position, batch->subscription->name, delivery->error),
			 delivery->state == OBX_DELIVERY_DEAD ?
			 errdetail("Attempt %d of %d: the event is a dead letter now.",
					   delivery->attempts, batch->subscription->max_attempts) :
			 errdetail("Attempt %d of %d, the next one at %s.", delivery->attempts,
					   batch->subscription->max_attempts,
					   timestamptz_to_str(delivery->next_at)),
			 delivery->state == OBX_DELIVERY_DEAD ?
			 errhint("See the view outbox.dead_letter.") : 0));
}

static void
fail_item(ObxBatch *batch, ObxItem *item, ObxVerdict verdict, const ErrorData *error)
{
	bool		is_new = item->delivery == NULL;

	if (is_new)
		item->delivery = make_delivery(batch, item);
	obx_delivery_fail(batch->subscription, verdict, error, item->delivery);
	item->state = OBX_ITEM_FAILED;
	batch->failures++;
	report_failure(batch, item, error);

	/* later events of its key are parked from here on */
	if (is_new && item->delivery->open)
		obx_lane_add(batch->lane, item->delivery);
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
		fail_item(batch, item, OBX_VERDICT_DEAD, &error);
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
		delivery = make_delivery(batch, item);
	obx_delivery_fail(batch->subscription, OBX_VERDICT_FAILURE, &error, delivery);
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
	ObxVerdict	verdict = obx_error_judge(error->sqlerrcode);

	if (obx_target_has_timed_out())
		error->message = psprintf("%s exceeded its timeout of %g s",
								  run->filtering ? "filter" :
								  batch->subscription->kind == OBX_KIND_AGGREGATE ? "reducer" :
								  "handler",
								  batch->subscription->timeout / 1e6);
	else if (error->sqlerrcode == ERRCODE_QUERY_CANCELED && batch->foreground)
		ReThrowError(error);

	if (verdict == OBX_VERDICT_INFRASTRUCTURE)
		ReThrowError(error);
	if (verdict == OBX_VERDICT_AGAIN && run->count == 1 &&
		!may_try_again(batch, &batch->items[run->current]))
		verdict = OBX_VERDICT_FAILURE;
	return verdict;
}

/*
 * What went well before the failing item is delivered again, one by one;
 * should that fail, it is the failing one.  Returns whose error it is.
 */
static ErrorData *
repeat_prefix(Run *run, ErrorData *error, ObxVerdict *verdict, bool *filtering)
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
			break;
		error = earlier;
		*verdict = judge_error(run->batch, run, error);
		*filtering = run->filtering;
	}
	run->single = single;
	return error;
}

/*
 * Deals with items from batch->reached on, up to and with the next failing one.
 * Returns false when the batch must end there.
 */
static bool
deliver_stretch(ObxBatch *batch, Run *run)
{
	ErrorData  *error;
	ObxVerdict	verdict;
	bool		filtering;
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
	verdict = judge_error(batch, run, error);
	filtering = run->filtering;

	/* a batch that failed in one call is repeated event by event */
	if (run->count > 1)
	{
		run->single = true;
		return true;
	}

	error = repeat_prefix(run, error, &verdict, &filtering);
	batch->reached = run->current;
	if (verdict == OBX_VERDICT_AGAIN)
		return false;

	/* an event that must wait anyway is filtered again when its turn comes */
	item = &batch->items[batch->reached++];
	if (filtering && park_if_blocked(batch, item))
		return true;
	fail_item(batch, item, verdict, error);
	return batch->subscription->ordering != OBX_ORDERING_STRICT &&
		batch->failures < OBX_BATCH_FAILURES &&
		(batch->yield == NULL || !batch->yield(GetCurrentTimestamp() - run->began));
}

void
obx_batch_deliver(ObxBatch *batch)
{
	Run			run = {.batch = batch,.began = GetCurrentTimestamp()};
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = describe_event,
		.arg = &run
	};

	fail_exhausted(batch);
	error_context_stack = &context;
	while (batch->reached < batch->nitems && deliver_stretch(batch, &run))
		CHECK_FOR_INTERRUPTS();
	error_context_stack = context.previous;
	note_call(batch, OBX_PASS_SEVERAL);
}

/* ---- writing ---- */

void
obx_batch_park(ObxBatch *batch, ObxItem *item)
{
	ObxDelivery *delivery = make_delivery(batch, item);

	item->state = OBX_ITEM_PARKED;
	obx_delivery_insert(delivery);
	obx_lane_add(batch->lane, delivery);
}

/* Nothing is left to wait for. */
static void
end_retry(ObxBatch *batch, const ObxItem *item, ObxProgress *progress, int64 attempts)
{
	obx_progress_settle(progress, item->event.position, attempts);
	obx_delivery_delete(batch->subscription->id, item->event.position);
	obx_lane_remove(batch->lane, item->event.position);
}

/* Nobody can deliver it any more; those behind it go on. */
static void
end_lost(ObxBatch *batch, const ObxItem *item)
{
	char	   *error = psprintf("position " INT64_FORMAT
								 " was dropped by outbox.max_retention before it was delivered again",
								 item->event.position);

	obx_failure_record(batch->subscription->id, item->event.position, error);
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("subscription \"%s\" lost events: %s", batch->subscription->name, error)));
	obx_delivery_delete(batch->subscription->id, item->event.position);
	obx_lane_remove(batch->lane, item->event.position);
}

void
obx_batch_write_item(ObxBatch *batch, ObxItem *item, ObxProgress *progress)
{
	switch (item->state)
	{
		case OBX_ITEM_DONE:
			progress->delivered++;
			if (batch->is_retry)
				end_retry(batch, item, progress, item->event.attempt);
			break;
		case OBX_ITEM_FAILED:
			progress->failed++;
			if (batch->is_retry)
			{
				obx_delivery_update(item->delivery);
				obx_lane_change(batch->lane, item->delivery);
			}
			else
				obx_delivery_insert(item->delivery);
			obx_failure_record(batch->subscription->id, item->event.position,
							   item->delivery->error);
			break;
		case OBX_ITEM_PARKED:
			if (!batch->is_retry)
				obx_batch_park(batch, item);
			break;
		case OBX_ITEM_SKIPPED:
			if (batch->is_retry)
				end_retry(batch, item, progress, OBX_SETTLED_FILTERED);
			break;
		case OBX_ITEM_LOST:
			end_lost(batch, item);
			break;
		case OBX_ITEM_PENDING:
			elog(ERROR, "event at position " INT64_FORMAT " was not dealt with",
				 item->event.position);
	}
}

void
obx_batch_fail(ObxBatch *batch, ObxItem *item, const ErrorData *error, ObxProgress *progress)
{
	fail_item(batch, item, OBX_VERDICT_FAILURE, error);
	obx_batch_write_item(batch, item, progress);
}

bool
obx_batch_write(ObxBatch *batch, ObxProgress *progress)
{
	int64		position = progress->position;

	for (int i = 0; i < batch->reached; i++)
		obx_batch_write_item(batch, &batch->items[i], progress);

	obx_lane_settle(batch->lane);

	if (batch->is_retry)
		return batch->reached > 0;
	if (batch->reached == batch->nitems)
	{
		progress->position = batch->read_position;
		progress->event_id = batch->read_id;
	}
	else if (batch->reached > 0)
	{
		progress->position = batch->items[batch->reached - 1].event.position;
		progress->event_id = batch->items[batch->reached - 1].event.id;
	}
	return batch->reached > 0 || progress->position != position;
}
