/*
 * Receipts: the consumer acks or nacks the events that were handed out, keeps
 * them for longer, or gives them back.
 *
 * Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/waiter.h"
#include "catalog/delivery.h"
#include "pull/handed.h"
#include "pull/lane.h"
#include "pull/receipt.h"
#include "pull/undone.h"

static void
report_stale(const ObxSubscription *subscription, int64 receipt)
{
	ereport(ERROR,
			(errcode(OBX_ERRCODE_STALE_RECEIPT),
			 errmsg("receipt " INT64_FORMAT " of subscription \"%s\" is not valid any more",
					receipt, subscription->name),
			 errdetail("Its lease has run out, its transaction has ended, or all of it was acked."),
			 errhint("Undo what was done about its events: outbox.receive() hands out again what was not acked.")));
}

static bool
is_good(const ObxProgress *progress, bool to_go_on)
{
	return obx_pull_lane_is_in_force(progress) ||
		(to_go_on && obx_pull_lane_is_ended(progress));
}

void
obx_receipt_require(ObxPullLane *work, const ObxSubscription *subscription, int64 receipt,
					bool to_go_on)
{
	int			lane;

	obx_lane_lock_tables();
	for (lane = 0; lane < subscription->concurrency; lane++)
		if (obx_progress_find(subscription->id, lane, &work->progress) &&
			work->progress.receipt == receipt)
			break;
	if (lane == subscription->concurrency || !is_good(&work->progress, to_go_on))
		report_stale(subscription, receipt);

	obx_lane_lock(subscription->id, lane, true);
	work->subscription = obx_subscription_require(subscription->name);
	if (!obx_progress_find(subscription->id, lane, &work->progress) ||
		work->progress.receipt != receipt || !is_good(&work->progress, to_go_on))
		report_stale(subscription, receipt);
	obx_progress_load(&work->progress);
	if (!obx_pull_lane_is_visible(&work->progress))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent use of receipt " INT64_FORMAT,
						receipt),
				 errdetail("Parts of it were acked or taken back after this transaction's snapshot had been taken."),
				 errhint("Run the transaction again.")));
}

static void
finish(ObxPullLane *work)
{
	if (obx_pull_lane_handed(&work->progress) == 0)
		obx_pull_lane_end(&work->progress);
	obx_undone_follow(&work->progress);
	obx_waiter_arm();
	obx_pull_lane_write(work);
}

/* ---- ack ---- */

/* All that are asked for, of those up to a position, which are the list's first ones. */
static int
count_up_to(const int64 *list, int count, int64 up_to)
{
	int			n = 0;

	while (n < count && list[n] <= up_to)
		n++;
	return n;
}

static void
ack_retries(ObxPullLane *work, const int64 *positions, int count)
{
	if (count == 0)
		return;
	obx_pull_lane_load(work);
	for (int i = 0; i < count; i++)
	{
		ObxDelivery *delivery = obx_delivery_find(work->subscription->id, positions[i]);

		if (delivery != NULL)
			obx_progress_record_outcome(&work->progress, delivery->position, delivery->attempts + 1);
		obx_delivery_delete(work->subscription->id, positions[i]);
		obx_lane_remove(work->lane, positions[i]);
	}
	obx_lane_refresh_heads(work->lane);
}

void
obx_receipt_ack(const ObxSubscription *subscription, int64 receipt, const ObxAck *ack)
{
	ObxPullLane work = {0};
	ObxProgress *progress = &work.progress;
	const int64 *owed;
	const int64 *retries;
	int			nowed;
	int			nretries;

	obx_receipt_require(&work, subscription, receipt, false);
	if (ack->positions != NULL)
	{
		owed = obx_handed_list(progress, ack->positions, ack->npositions, false, &nowed);
		retries = obx_handed_list(progress, ack->positions, ack->npositions, true, &nretries);
	}
	else
	{
		int64		up_to = ack->up_to == 0 ? PG_INT64_MAX : ack->up_to;

		if (ack->up_to != 0)
			(void) obx_handed_is_retry(progress, up_to);
		owed = progress->owed.list;
		nowed = count_up_to(owed, progress->nhanded, up_to);
		retries = progress->retries.list;
		nretries = count_up_to(retries, progress->retries.count, up_to);
	}

	ack_retries(&work, retries, nretries);
	obx_positions_take(&progress->retries, retries, nretries);
	obx_positions_take(&progress->owed, owed, nowed);
	progress->nhanded -= nowed;
	progress->delivered += nowed + nretries;
	obx_handed_settle(progress, nowed + nretries);
	finish(&work);
}

/* ---- nack ---- */

void
obx_receipt_nack(const ObxSubscription *subscription, int64 receipt, const ObxNack *nack)
{
	ObxPullLane work = {0};

	obx_receipt_require(&work, subscription, receipt, false);
	for (int i = 0; i < nack->npositions; i++)
		(void) obx_handed_is_retry(&work.progress, nack->positions[i]);
	obx_pull_lane_load(&work);
	obx_handed_fail(&work, nack, ERRCODE_RAISE_EXCEPTION);
	obx_waiter_arm();
	/* the receipt is good for an ack, even if nothing is left of the hand-out */
	obx_pull_lane_write(&work);
}

/* ---- keeping, giving back ---- */

TimestampTz
obx_receipt_extend(const ObxSubscription *subscription, int64 receipt, int64 lease)
{
	ObxPullLane work = {0};

	obx_receipt_require(&work, subscription, receipt, false);
	work.progress.lease_until = GetCurrentTimestamp() + lease;
	work.progress.noted_at = GetCurrentTimestamp();
	obx_undone_forget(&work.progress);
	obx_pull_lane_write(&work);
	return work.progress.lease_until;
}

void
obx_receipt_release(const ObxSubscription *subscription, int64 receipt)
{
	ObxPullLane work = {0};

	obx_receipt_require(&work, subscription, receipt, false);
	obx_undone_forget(&work.progress);
	obx_pull_lane_end(&work.progress);
	obx_waiter_arm();
	obx_pull_lane_write(&work);
}
