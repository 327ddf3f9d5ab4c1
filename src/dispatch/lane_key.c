/*
 * The key of an event, by which it waits for others, and its lane.
 *
 * Pure.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"

#include "base/compat.h"
#include "dispatch/lane_key.h"
#include "log/event.h"

static int64
hash_text(text *key)
{
	return (int64) hash_bytes_extended((const unsigned char *) VARDATA_ANY(key),
									   VARSIZE_ANY_EXHDR(key), 0);
}

void
obx_event_key(TupleTableSlot *event, ObxOrderKey *key)
{
	bool		isnull;
	Datum		datum = slot_getattr(event, OBX_EVENT_KEY + 1, &isnull);

	key->has = !isnull;
	key->hash = 0;
	if (!isnull)
		key->hash = hash_text(DatumGetTextPP(datum));
}

int64
obx_lane_hash_of_group(text *key)
{
	return key == NULL ? 0 : hash_text(key);
}

void
obx_lane_key(const ObxSubscription *subscription, ObxOrderKey *key)
{
	if (subscription->ordering == OBX_ORDERING_NONE)
	{
		key->has = false;
		key->hash = 0;
	}
	if (subscription->kind == OBX_KIND_AGGREGATE)
		key->has = true;
}

void
obx_lane_key_of_event(const ObxSubscription *subscription, TupleTableSlot *event,
					  ObxOrderKey *key)
{
	obx_event_key(event, key);
	obx_lane_key(subscription, key);
}

int
obx_lane_of_event(int concurrency, ObxOrderKey key, int64 event_id)
{
	uint64		hash;

	if (concurrency == 1)
		return 0;
	hash = key.has ? (uint64) key.hash : (uint64) hash_bytes_extended((unsigned char *) &event_id,
																	  sizeof(event_id), 0);
	return (int) (hash % (uint64) concurrency);
}
