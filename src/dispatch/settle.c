/*
 * Decides which open delivery of a key is tried, and which ones wait.
 *
 * The first one is a retry, or a dead letter that blocks, and those behind it
 * are parked.  Code that changes rows of a lane without the lane in memory
 * (lane.h) settles them here, from the table.  A walk remembers only the hash
 * of each key that waits.
 *
 * Locks: the lane's.  Must not know why rows were changed.
 */
#include "postgres.h"

#include "utils/hsearch.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "dispatch/settle.h"

/* The first one is tried next; what is behind it waits, whatever it was. */
bool
obx_settle_delivery(ObxDelivery *delivery, bool is_first)
{
	if (is_first && delivery->state == OBX_DELIVERY_PARKED)
	{
		delivery->state = OBX_DELIVERY_RETRY;
		if (delivery->next_at == DT_NOEND)
			delivery->next_at = GetCurrentTimestamp();
	}
	else if (!is_first && delivery->state == OBX_DELIVERY_RETRY)
		delivery->state = OBX_DELIVERY_PARKED;
	else
		return false;
	obx_delivery_update(delivery);
	return true;
}

/* What is known of the keys of rows that are visited by position. */
typedef struct Settling
{
	ObxOrdering ordering;
	const ObxDelivery *one;		/* only its key; NULL: all */
	bool		seen_one;		/* is one of that key open before? */
	HTAB	   *seen;			/* of all, those keys */
} Settling;

/* By what the delivery waits, as if under "strict" all had the same key; false for nothing. */
static bool
get_waiting_key(ObxOrdering ordering, const ObxDelivery *delivery, int64 *key)
{
	*key = ordering == OBX_ORDERING_STRICT ? 0 : delivery->key.hash;
	return ordering == OBX_ORDERING_STRICT ||
		(ordering == OBX_ORDERING_KEY && delivery->key.has);
}

/* ObxDeliveryVisitor */
static bool
settle_row(ObxDelivery *delivery, void *arg)
{
	Settling   *settling = arg;
	int64		key;
	int64		one_key;
	bool		seen;

	if (!get_waiting_key(settling->ordering, delivery, &key))
		return true;
	if (settling->one != NULL)
	{
		(void) get_waiting_key(settling->ordering, settling->one, &one_key);
		if (key != one_key)
			return true;
		seen = settling->seen_one;
		settling->seen_one = true;
	}
	else
		hash_search(settling->seen, &key, HASH_ENTER, &seen);
	(void) obx_settle_delivery(delivery, !seen);
	return true;
}

void
obx_settle_key(const ObxSubscription *subscription, const ObxDelivery *delivery)
{
	Settling	settling = {.ordering = subscription->ordering,.one = delivery};
	int64		key;

	if (get_waiting_key(subscription->ordering, delivery, &key))
		obx_delivery_visit_behind(subscription->id, delivery->lane,
								  subscription->ordering == OBX_ORDERING_STRICT ? NULL : &key,
								  PG_INT64_MIN, settle_row, &settling);
}

void
obx_settle_lane(const ObxSubscription *subscription, int32 lane)
{
	Settling	settling = {.ordering = subscription->ordering};
	HASHCTL		control = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(int64),
		.hcxt = CurrentMemoryContext
	};

	if (subscription->ordering == OBX_ORDERING_NONE)
		return;
	settling.seen = hash_create("pg_outbox keys", 64, &control,
								HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	obx_delivery_visit_open(subscription->id, lane, settle_row, &settling);
	hash_destroy(settling.seen);
}
