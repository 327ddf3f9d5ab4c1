/*
 * Why subscriptions are behind, in words.
 *
 * Reads catalogs, bookkeeping and the workers' slots; waits for nobody.  Must
 * not know who asks.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/settings.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "log/segment.h"
#include "sqlapi/behind.h"
#include "worker/queue.h"
#include "worker/refusal.h"
#include "worker/slot.h"

/* The workers of our database, from the slots. */
typedef struct Workers
{
	bool		sequencer;
	bool		starved;		/* a process is lacking */
	bool		dispatcher;		/* the owner has one */
	int			queued;			/* lanes of the subscription in the queue; -1:
								 * there is room for all */
	bool		serving;		/* a dispatcher is at the subscription */
	TimestampTz since;			/* then, since when */
} Workers;

/* Lanes of the subscription that have a place, if places were short lately.  Locked. */
static int
count_queued(int32 subscription)
{
	int			count = 0;

	if (!obx_queue_is_short())
		return -1;
	for (int i = 0; i < obx_queue->used; i++)
		if (obx_queue->lanes[i].state != OBX_QUEUED_FREE &&
			obx_queue->lanes[i].database == MyDatabaseId &&
			obx_queue->lanes[i].subscription == subscription)
			count++;
	return count;
}

static void
look_at_workers(Workers *workers, int32 subscription, Oid owner)
{
	memset(workers, 0, sizeof(Workers));
	LWLockAcquire(obx_slots->lock, LW_SHARED);
	for (int i = 0; i < obx_slots->nslots; i++)
	{
		const ObxSlot *slot = &obx_slots->slots[i];

		if (slot->database != MyDatabaseId || !obx_slot_is_live(slot))
			continue;
		if (slot->role == OBX_ROLE_SEQUENCER)
		{
			workers->sequencer = true;
			workers->starved = slot->starved_since != 0;
		}
		else if (slot->role == OBX_ROLE_DISPATCHER && slot->owner == owner)
		{
			workers->dispatcher = true;
			if (slot->state != OBX_SLOT_BUSY || slot->subscription != subscription)
				continue;
			workers->serving = true;
			workers->since = slot->claimed_at;
		}
	}
	if (!workers->sequencer)
		workers->starved = obx_slot_starved_since(MyDatabaseId) != 0;
	else if (workers->dispatcher)
		workers->starved = false;
	workers->queued = count_queued(subscription);
	LWLockRelease(obx_slots->lock);
}

/* ObxDeliveryVisitor: finds the first delivery that waits for its retry. */
static bool
find_retry(ObxDelivery *delivery, void *arg)
{
	ObxDelivery *found = arg;

	if (delivery->state != OBX_DELIVERY_RETRY)
		return true;
	*found = *delivery;
	return false;
}

static bool
explain_retry(StringInfo out, const ObxSubscription *subscription, int64 position)
{
	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxDelivery found = {0};

		if (!obx_delivery_is_waiting(subscription->id, lane, position))
			continue;
		obx_delivery_visit_open(subscription->id, lane, find_retry, &found);
		if (found.position == 0)
			continue;
		appendStringInfo(out, "retries the event at position " INT64_FORMAT " at %s",
						 found.position, timestamptz_to_str(found.next_at));
		return true;
	}
	return false;
}

const char *
obx_behind_find_obstacle(int32 subscription, Oid owner, int lanes)
{
	const char *obstacle = obx_refusal_find_obstacle(owner);
	Workers		workers;

	if (obx_slots == NULL)
		return "no worker: the library is not preloaded";
	if (obstacle != NULL)
		return psprintf("refused: %s", obstacle);
	look_at_workers(&workers, subscription, owner);
	if (workers.starved)
		return "starved: no background worker process is free";
	if (!workers.sequencer)
		return "no worker: no sequencer serves this database";
	if (obx_max_workers == 0)
		return "no worker: outbox.max_workers is 0";
	if (workers.queued >= 0 && workers.queued < lanes)
		return psprintf("starved: lanes without a place in the queue: %d of %d",
						lanes - workers.queued, lanes);
	return NULL;
}

void
obx_behind_explain_pause(StringInfo out, const ObxSubscription *subscription)
{
	appendStringInfoString(out, "paused");
	if (subscription->paused_by != NULL)
		appendStringInfo(out, " by %s", subscription->paused_by);
	else if (subscription->paused_at != 0)
		appendStringInfoString(out, " because the database is a copy");
	if (subscription->paused_at != 0)
		appendStringInfo(out, ", since %s", timestamptz_to_str(subscription->paused_at));
}

void
obx_behind_explain_workers(StringInfo out, const ObxSubscription *subscription)
{
	const char *obstacle = obx_refusal_find_obstacle(subscription->owner);
	Workers		workers;

	if (obx_slots == NULL)
	{
		appendStringInfoString(out, "has no worker: the library is not preloaded");
		return;
	}
	if (obstacle != NULL)
	{
		appendStringInfo(out, "is refused, since no worker can connect as its owner: %s", obstacle);
		return;
	}
	look_at_workers(&workers, subscription->id, subscription->owner);
	if (workers.serving)
		appendStringInfo(out, "is being served, by one call or turn since %s",
						 timestamptz_to_str(workers.since));
	else if (workers.starved)
		appendStringInfoString(out, "is starved: no background worker process is free");
	else if (!workers.sequencer)
		appendStringInfoString(out, "has no worker: no sequencer serves this database");
	else if (workers.queued >= 0 && workers.queued < subscription->concurrency)
		appendStringInfo(out, "is starved: lanes without a place in the queue: %d of %d",
						 subscription->concurrency - workers.queued, subscription->concurrency);
	else
		appendStringInfoString(out, "waits for a dispatcher");
}

/* Does it stand still until a seek? */
static bool
is_lost(const ObxSubscription *subscription)
{
	int64		oldest = obx_segment_oldest(NULL);

	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxProgress progress;

		if (obx_progress_find(subscription->id, lane, &progress) &&
			(progress.position < 0 || progress.position + 1 < oldest))
			return true;
	}
	return false;
}

/* That it cannot run at all, whatever the workers are to it. */
static bool
explain_failure(StringInfo out, const ObxSubscription *subscription)
{
	const char *error = obx_failure_find(subscription->id);

	if (error == NULL)
		return false;
	appendStringInfo(out, "is %s: %s", is_lost(subscription) ? "lost" : "broken", error);
	return true;
}

void
obx_behind_explain(StringInfo out, const ObxSubscription *subscription, int64 position)
{
	appendStringInfo(out, "\"%s\" ", subscription->name);
	if (subscription->paused)
	{
		appendStringInfoString(out, "is ");
		obx_behind_explain_pause(out, subscription);
	}
	else if (explain_failure(out, subscription))
		return;
	else if (subscription->kind == OBX_KIND_PULL)
		appendStringInfoString(out, "waits for a consumer to receive and ack");
	else if (!explain_retry(out, subscription, position))
		obx_behind_explain_workers(out, subscription);
}

void
obx_behind_explain_log(StringInfo out)
{
	Workers		workers;

	appendStringInfoString(out, "committed events have no positions yet: ");
	if (obx_slots == NULL)
	{
		appendStringInfoString(out, "the library is not preloaded, so there are no workers");
		return;
	}
	look_at_workers(&workers, 0, InvalidOid);
	appendStringInfoString(out, workers.sequencer ? "the sequencer is at work" :
						   workers.starved ? "no background worker process is free for a sequencer" :
						   "no sequencer serves this database");
}
