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
#include "sqlapi/behind.h"
#include "worker/refusal.h"
#include "worker/slot.h"

/* What the slots say of our database. */
typedef struct Workers
{
	bool		sequencer;
	bool		starved;		/* a process is lacking */
	bool		serving;		/* a dispatcher is at the subscription */
	TimestampTz since;			/* then, since when */
} Workers;

static void
look_at_workers(Workers *workers, int32 subscription)
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
		else if (slot->state == OBX_SLOT_BUSY && slot->subscription == subscription &&
				 subscription != 0)
		{
			workers->serving = true;
			workers->since = slot->claimed_at;
		}
	}
	if (!workers->sequencer)
		workers->starved = obx_slot_starved_since(MyDatabaseId) != 0;
	LWLockRelease(obx_slots->lock);
}

/* ObxDeliveryVisitor: the first one that is to be tried again. */
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
	look_at_workers(&workers, subscription->id);
	if (workers.serving)
		appendStringInfo(out, "is being served, by one call or turn since %s",
						 timestamptz_to_str(workers.since));
	else if (workers.starved)
		appendStringInfoString(out, "is starved: no background worker process is free");
	else if (!workers.sequencer)
		appendStringInfoString(out, "has no worker: no sequencer serves this database");
	else
		appendStringInfoString(out, "waits for a dispatcher");
}

void
obx_behind_explain(StringInfo out, const ObxSubscription *subscription, int64 position)
{
	appendStringInfo(out, "\"%s\" ", subscription->name);
	if (subscription->paused)
		appendStringInfoString(out, "is paused");
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
	look_at_workers(&workers, 0);
	appendStringInfoString(out, workers.sequencer ? "the sequencer is at work" :
						   workers.starved ? "no background worker process is free for a sequencer" :
						   "no sequencer serves this database");
}
