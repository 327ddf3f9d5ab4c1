/*
 * What a lane waits for.
 *
 * Most lanes wait for nothing, and then this costs a look at a version.
 * Where many events are parked, loading them for every batch would cost more
 * with each one parked; hence the cache.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "dispatch/lane.h"
#include "log/event.h"

static HTAB *lanes = NULL;

/* A version that was written or read in there may be written again otherwise. */
static void
forget_since(SubTransactionId subxact)
{
	HASH_SEQ_STATUS status;
	ObxLane    *lane;

	hash_seq_init(&status, lanes);
	while ((lane = hash_seq_search(&status)) != NULL)
		if (lane->loaded_in >= subxact)
			lane->version = -1;
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		forget_since(TopSubTransactionId);
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent,
				   void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_since(subxact);
}

static ObxLane *
find_or_make(int32 subscription, int32 lane_number)
{
	ObxLaneKey	key = {.subscription = subscription,.lane = lane_number};
	ObxLane    *lane;
	bool		found;

	if (lanes == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(ObxLaneKey),
			.entrysize = sizeof(ObxLane)
		};

		lanes = hash_create("pg_outbox lanes", 64, &control, HASH_ELEM | HASH_BLOBS);
		RegisterXactCallback(end_transaction, NULL);
		RegisterSubXactCallback(end_subtransaction, NULL);
	}
	lane = hash_search(lanes, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) lane + sizeof(ObxLaneKey), 0, sizeof(ObxLane) - sizeof(ObxLaneKey));
		lane->version = -1;
	}
	return lane;
}

static void
block_key(ObxLane *lane, const ObxDelivery *delivery)
{
	if (!delivery->has_key)
		return;
	if (lane->blocked == NULL)
	{
		HASHCTL		control = {
			.keysize = sizeof(int64),
			.entrysize = sizeof(int64),
			.hcxt = lane->memory
		};

		lane->blocked = hash_create("pg_outbox blocked keys", 64, &control,
									HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	hash_search(lane->blocked, &delivery->key_hash, HASH_ENTER, NULL);
}

ObxLane *
obx_lane_load(int32 subscription, int32 lane_number, int64 version)
{
	ObxLane    *lane = find_or_make(subscription, lane_number);
	MemoryContext old;
	ListCell   *lc;

	if (lane->version == version && lane->catalog == obx_object_require(OBX_SUBSCRIPTION))
	{
		lane->loaded_in = GetCurrentSubTransactionId();
		return lane;
	}

	if (lane->memory == NULL)
		lane->memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox lane",
											 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(lane->memory);
	lane->blocked = NULL;
	old = MemoryContextSwitchTo(lane->memory);
	lane->open = obx_delivery_list_open(subscription, lane_number);
	foreach(lc, lane->open)
		block_key(lane, lfirst(lc));
	MemoryContextSwitchTo(old);
	lane->version = version;
	lane->catalog = obx_object_require(OBX_SUBSCRIPTION);
	lane->loaded_in = GetCurrentSubTransactionId();
	return lane;
}

bool
obx_lane_is_blocked(const ObxLane *lane, const ObxSubscription *subscription, bool has_key,
					int64 key_hash)
{
	return has_key && subscription->ordering == OBX_ORDERING_KEY && lane->blocked != NULL &&
		hash_search(lane->blocked, &key_hash, HASH_FIND, NULL) != NULL;
}

void
obx_lane_add(ObxLane *lane, const ObxDelivery *delivery)
{
	MemoryContext old = MemoryContextSwitchTo(lane->memory);
	ObxDelivery *copy = palloc(sizeof(ObxDelivery));

	/* of the error, nobody asks a lane */
	*copy = *delivery;
	copy->sqlstate = copy->error = copy->error_detail = copy->error_context = NULL;
	lane->open = lappend(lane->open, copy);
	block_key(lane, copy);
	MemoryContextSwitchTo(old);
}

TimestampTz
obx_lane_due(const ObxLane *lane)
{
	TimestampTz due = DT_NOEND;
	ListCell   *lc;

	foreach(lc, lane->open)
	{
		const ObxDelivery *delivery = lfirst(lc);

		if (delivery->state == OBX_DELIVERY_RETRY)
			due = Min(due, delivery->next_at);
	}
	return due;
}

void
obx_lane_forget(ObxLane *lane)
{
	lane->version = -1;
}

/* The first one is tried next; what is behind it waits, whatever it was. */
static void
settle_delivery(ObxDelivery *delivery, bool is_first)
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
		return;
	obx_delivery_update(delivery);
}

void
obx_lane_settle(const ObxSubscription *subscription, int32 lane)
{
	HASHCTL		control = {
		.keysize = sizeof(int64),
		.entrysize = sizeof(int64),
		.hcxt = CurrentMemoryContext
	};
	HTAB	   *seen;
	ListCell   *lc;

	if (subscription->ordering == OBX_ORDERING_NONE)
		return;
	seen = hash_create("pg_outbox keys", 64, &control,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	foreach(lc, obx_delivery_list_open(subscription->id, lane))
	{
		ObxDelivery *delivery = lfirst(lc);
		int64		key = delivery->key_hash;
		bool		found;

		if (subscription->ordering == OBX_ORDERING_STRICT)
			key = 0;			/* as if all had the same */
		else if (!delivery->has_key)
			continue;
		hash_search(seen, &key, HASH_ENTER, &found);
		settle_delivery(delivery, !found);
	}
	hash_destroy(seen);
}

/* an "object" of the class that our table is, so no other extension's */
static LOCKTAG
lock_tag(int32 subscription, int32 lane)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, obx_object_require(OBX_SUBSCRIPTION),
					   (Oid) subscription, (uint16) lane);
	return tag;
}

bool
obx_lane_lock(int32 subscription, int32 lane, bool wait)
{
	LOCKTAG		tag = lock_tag(subscription, lane);

	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* a lane that there never is */
void
obx_subscription_lock(int32 subscription)
{
	(void) obx_lane_lock(subscription, PG_UINT16_MAX, true);
}

void
obx_lane_unlock(int32 subscription, int32 lane)
{
	LOCKTAG		tag = lock_tag(subscription, lane);

	LockRelease(&tag, ExclusiveLock, false);
}

void
obx_event_key(TupleTableSlot *event, bool *has_key, int64 *key_hash)
{
	bool		isnull;
	Datum		datum = slot_getattr(event, OBX_EVENT_KEY + 1, &isnull);

	*has_key = !isnull;
	*key_hash = 0;
	if (!isnull)
	{
		text	   *key = DatumGetTextPP(datum);

		*key_hash = (int64) hash_bytes_extended((const unsigned char *) VARDATA_ANY(key),
												VARSIZE_ANY_EXHDR(key), 0);
	}
}

int
obx_lane_of_event(int concurrency, bool has_key, int64 key_hash, int64 event_id)
{
	uint64		hash;

	if (concurrency == 1)
		return 0;
	hash = has_key ? (uint64) key_hash : (uint64) hash_bytes_extended((unsigned char *) &event_id,
																	  sizeof(event_id), 0);
	return (int) (hash % (uint64) concurrency);
}
