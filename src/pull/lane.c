/*
 * A lane of a pull subscription, and what of it is handed out.
 *
 * A hand-out is part of the newest version of its lane's progress.  "owed"
 * are the positions that were read from the log for consumers and are neither
 * acked nor in outbox.delivery: what lies before the first of them is dealt
 * with, and the log is read on only when none is left.  The list is written
 * when it is read, so that an ack costs the same for a long one and a short one;
 * acks that go by its order leave it alone.  What is handed out are
 * the first few of those owed, and retries, which have delivery rows.  So one
 * that runs out needs nothing to be done: its events are owed, or due, as
 * before, and the next hand-out has another receipt.
 *
 * One receipt may have several hand-outs of the lane: who has it gets what
 * comes next, in order, while the ones before are under way.
 *
 * A hand-out is in force in the transaction that received it, and with a lease
 * until that ends.  What one that ends without a word means, see blame.c.
 *
 * Locks: the lane's, as for a pass, taken before the snapshot.  Under
 * repeatable read the transaction's snapshot is older than the lock; a lane
 * whose progress it does not see is not touched, for the consumer's queries
 * would not see either what was done about the events before.  The log is then
 * read with that snapshot too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "log/generation.h"
#include "pull/lane.h"

bool
obx_pull_lane_is_in_force(const ObxProgress *progress)
{
	return progress->receipt != 0 &&
		(obx_progress_is_leased(progress) ||
		 (progress->receiver != 0 &&
		  progress->receiver == obx_generation_own_xid_if_any()));
}

bool
obx_pull_lane_is_out(const ObxProgress *progress)
{
	return obx_pull_lane_handed(progress) > 0 && obx_pull_lane_is_in_force(progress);
}

bool
obx_pull_lane_is_ended(const ObxProgress *progress)
{
	return progress->receipt != 0 && progress->receiver == 0;
}

/* The receipt stays: who has it may go on under it until another one comes. */
void
obx_pull_lane_end(ObxProgress *progress)
{
	progress->receiver = 0;
	progress->lease_until = DT_NOBEGIN;
	progress->nhanded = 0;
	obx_positions_set(&progress->retries, NULL, 0);
}

void
obx_pull_lane_place(const ObxProgress *progress, int64 *position, int64 *id)
{
	bool		is_ahead = progress->owed.count > 0;

	*position = is_ahead ? progress->read_position : progress->position;
	*id = is_ahead ? progress->read_id : progress->event_id;
}

bool
obx_pull_lane_is_visible(const ObxProgress *progress)
{
	return !IsolationUsesXactSnapshot() ||
		obx_progress_version(progress->subscription, progress->lane,
							 GetTransactionSnapshot()) == progress->version;
}

/* A lane with fewer open deliveries is read again by each call. */
#define OBX_PULL_LANE_KEPT 100

void
obx_pull_lane_load(ObxPullLane *work)
{
	work->lane = obx_lane_load(work->subscription, work->progress.lane, work->progress.version);
	if (work->lane->open == NULL || hash_get_num_entries(work->lane->open) < OBX_PULL_LANE_KEPT)
		obx_lane_forget(work->lane);
}

void
obx_pull_lane_push_snapshot(void)
{
	PushActiveSnapshot(IsolationUsesXactSnapshot() ? GetTransactionSnapshot() :
					   GetLatestSnapshot());
}

ObxBatch *
obx_pull_lane_make_batch(ObxPullLane *work, int size)
{
	ObxSubscription *sized = palloc(sizeof(ObxSubscription));

	*sized = *work->subscription;
	sized->batch_size = size;
	return obx_batch_make(sized, work->lane, NULL);
}

void
obx_pull_lane_pass(ObxProgress *progress)
{
	if (progress->owed.count > 0)
	{
		if (progress->position != progress->owed.list[0] - 1)
			progress->event_id = 0;
		progress->position = progress->owed.list[0] - 1;
	}
	else if (progress->read_position > 0)
	{
		progress->position = progress->read_position;
		progress->event_id = progress->read_id;
		/* from here on it is moved by reading */
		progress->read_position = progress->read_id = 0;
	}
}

void
obx_pull_lane_write(ObxPullLane *work)
{
	ObxProgress *progress = &work->progress;

	obx_pull_lane_pass(progress);
	obx_progress_advance(progress);
	if (work->lane != NULL && work->lane->version >= 0)
		work->lane->version = progress->version;
}

void
obx_pull_lane_drop(ObxProgress *progress)
{
	progress->receipt = 0;
	progress->nhanded = 0;
	obx_positions_set(&progress->owed, NULL, 0);
	obx_positions_set(&progress->retries, NULL, 0);
	progress->read_position = progress->read_id = 0;
}
