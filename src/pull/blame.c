/*
 * Hand-outs that ended without a word: whose fault that is.
 *
 * A consumer that crashes says nothing, and its events would be handed out for
 * ever.  So where one event was left of a hand-out, the end is an attempt of
 * it, with the backoff and the dead letter of any other.  Where several were,
 * it could be any: the next hand-outs are a tenth of that, and so on, until the
 * one that ends its consumer is alone; those that are acked meanwhile use up
 * nothing.  From then on it is handed out by itself.
 *
 * Locks: the lane's.  Must not know who receives.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/delivery.h"
#include "pull/blame.h"
#include "pull/handed.h"

/* Hand-outs after an unclean end are smaller by this. */
#define OBX_CAREFUL_PART 10

bool
obx_blame_is_suspect(const ObxDelivery *delivery)
{
	return delivery->sqlstate != NULL &&
		strcmp(delivery->sqlstate, unpack_sql_state(ERRCODE_CRASH_SHUTDOWN)) == 0;
}

int64
obx_blame_first(const ObxProgress *progress)
{
	int64		owed = progress->nhanded > 0 ? progress->owed.list[0] : PG_INT64_MAX;
	int64		retry = progress->retries.count > 0 ? progress->retries.list[0] : PG_INT64_MAX;

	return Min(owed, retry);
}

static char *
make_error(TimestampTz ended)
{
	return psprintf("consumer ended without ack at %s", timestamptz_to_str(ended));
}

void
obx_blame_event(ObxPullLane *work, int64 position, TimestampTz ended)
{
	ObxNack		nack = {
		.positions = &position,.npositions = 1,.delay = -1,.may_be_gone = true,
		.error = make_error(ended)
	};

	obx_handed_fail(work, &nack, ERRCODE_CRASH_SHUTDOWN);
	obx_pull_lane_pass(&work->progress);
	work->changed = true;
}

void
obx_blame_several(ObxPullLane *work, int64 position, int count, TimestampTz ended)
{
	work->progress.careful = Max(count / OBX_CAREFUL_PART, 1);
	work->progress.careful_left = count;
	obx_failure_record(work->subscription->id, position, make_error(ended));
	work->changed = true;
}

void
obx_blame_handout(ObxPullLane *work)
{
	const ObxProgress *progress = &work->progress;
	int			left = obx_pull_lane_handed(progress);
	TimestampTz ended = progress->lease_until == DT_NOBEGIN ? progress->noted_at :
	progress->lease_until;

	if (left > 1)
	{
		obx_blame_several(work, obx_blame_first(progress), left, ended);
		return;
	}
	obx_pull_lane_load(work);
	obx_blame_event(work, obx_blame_first(progress), ended);
}
