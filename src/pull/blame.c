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
#include "pull/lane.h"
#include "pull/receipt.h"

/* Hand-outs after an unclean end are smaller by this. */
#define OBX_CAREFUL_PART 10

bool
obx_pull_lane_is_suspect(const ObxDelivery *delivery)
{
	return delivery->sqlstate != NULL &&
		strcmp(delivery->sqlstate, unpack_sql_state(ERRCODE_CRASH_SHUTDOWN)) == 0;
}

static int64
first_handed(const ObxProgress *progress)
{
	if (progress->nhanded > 0)
		return progress->owed.list[0];
	return progress->retries.list[0];
}

void
obx_pull_lane_blame(ObxPullLane *work)
{
	ObxProgress *progress = &work->progress;
	int			left = obx_pull_lane_handed(progress);
	TimestampTz ended = progress->lease_until == DT_NOBEGIN ? progress->noted_at :
	progress->lease_until;
	int64		position = first_handed(progress);
	ObxNack		nack = {
		.positions = &position,.npositions = 1,.delay = -1,.may_be_gone = true
	};
	char	   *error = psprintf("consumer ended without ack at %s", timestamptz_to_str(ended));

	work->changed = true;
	if (left > 1)
	{
		progress->careful = Max(left / OBX_CAREFUL_PART, 1);
		progress->careful_left = left;
		obx_failure_record(work->subscription->id, position, error);
		return;
	}
	nack.error = error;
	obx_pull_lane_load(work);
	obx_handed_fail(work, &nack, ERRCODE_CRASH_SHUTDOWN);
	obx_pull_lane_pass(progress);
}
