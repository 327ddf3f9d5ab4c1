/*
 * The open deliveries of a lane, and the keys that they block.
 *
 * Most lanes have none, and then this costs one comparison of versions.  If
 * many events are parked, loading them for every batch would cost more with
 * each parked event.  So loaded rows are kept, and follow the writes of this
 * process; and of each key only the first ones are loaded, the others when
 * those are dealt with.  The cost of a batch depends on its own events, not on
 * the waiting ones, also in a process that has not served the lane before.
 *
 * In the list of a key the first delivery is a retry (or a dead letter that
 * blocks), and those behind it are parked; only retries are in the heap.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "catalog/names.h"
#include "dispatch/lane.h"
#include "dispatch/settle.h"

/*
 * A process may serve any number of lanes in its life, and remembers about so
 * many, those that it served last.
 */
#define LANES_KEPT 1000

static HTAB *lanes = NULL;
static int64 loads = 0;			/* the clock by which they were used */
static long forget_at = 2 * LANES_KEPT; /* so many: the oldest ones go */

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
	/* of one that is prepared, nobody here learns how it ends */
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		forget_since(TopSubTransactionId);
}

static void
end_subtransaction(SubXactEvent event, SubTransactionId subxact, SubTransactionId parent,
				   void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_since(subxact);
}

/* Deletes what the lane holds. */
static void
empty_lane(ObxLane *lane)
{
	if (lane->memory != NULL)
		MemoryContextDelete(lane->memory);
	lane->memory = NULL;
	lane->open = lane->waiting = NULL;
	lane->later = lane->due = NULL;
	lane->stale = NIL;
	lane->is_partial = false;
}

/* A caller that has loaded a lane may use it until its transaction ends. */
static void
forget_unused(void)
{
	HASH_SEQ_STATUS status;
	ObxLane    *lane;

	hash_seq_init(&status, lanes);
	while ((lane = hash_seq_search(&status)) != NULL)
		if (lane->used <= loads - LANES_KEPT && lane->used_by != obx_my_lxid())
		{
			empty_lane(lane);
			hash_search(lanes, &lane->key, HASH_REMOVE, NULL);
		}
	forget_at = 2 * Max(hash_get_num_entries(lanes), LANES_KEPT);
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
	if (hash_get_num_entries(lanes) >= forget_at)
		forget_unused();
	lane = hash_search(lanes, &key, HASH_ENTER, &found);
	if (!found)
	{
		memset((char *) lane + sizeof(ObxLaneKey), 0, sizeof(ObxLane) - sizeof(ObxLaneKey));
		lane->version = -1;
	}
	lane->used = ++loads;
	lane->used_by = obx_my_lxid();
	return lane;
}

/* ---- what is open ---- */

/* pairingheap_comparator: the one due next is the greatest */
static int
compare_times(const pairingheap_node * left, const pairingheap_node * right, void *arg)
{
	TimestampTz a = pairingheap_const_container(ObxOpen, retry, left)->next_at;
	TimestampTz b = pairingheap_const_container(ObxOpen, retry, right)->next_at;

	return a < b ? 1 : a > b ? -1 : 0;
}

/* pairingheap_comparator: the first by position is the greatest */
static int
compare_positions(const pairingheap_node * left, const pairingheap_node * right, void *arg)
{
	int64		a = pairingheap_const_container(ObxOpen, retry, left)->position;
	int64		b = pairingheap_const_container(ObxOpen, retry, right)->position;

	return a < b ? 1 : a > b ? -1 : 0;
}

static ObxOpen *
first_of(pairingheap * heap)
{
	return pairingheap_container(ObxOpen, retry, pairingheap_first(heap));
}

static HTAB *
make_table(const char *name, Size entry_size, MemoryContext memory)
{
	HASHCTL		control = {
		.keysize = sizeof(int64),
		.entrysize = entry_size,
		.hcxt = memory
	};

	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Those among which a delivery waits; made if there are none yet. */
static ObxWaiting *
require_waiting(ObxLane *lane, const ObxDelivery *delivery)
{
	int64		key = lane->ordering == OBX_ORDERING_STRICT ? 0 : delivery->key.hash;
	ObxWaiting *waiting;
	bool		found;

	if (lane->ordering == OBX_ORDERING_NONE ||
		(lane->ordering == OBX_ORDERING_KEY && !delivery->key.has))
		return NULL;
	waiting = hash_search(lane->waiting, &key, HASH_ENTER, &found);
	if (!found)
	{
		dlist_init(&waiting->open);
		dlist_init(&waiting->retries);
		waiting->stale = false;
		waiting->has_more = false;
		waiting->loaded_to = 0;
		waiting->last_item = -1;
	}
	return waiting;
}

static ObxWaiting *
find_waiting(const ObxLane *lane, int64 key_hash)
{
	return lane->waiting == NULL ? NULL :
		hash_search(lane->waiting, &key_hash, HASH_FIND, NULL);
}

/* NULL if it is parked, with a key of which not all were loaded. */
static ObxOpen *
find_open(const ObxLane *lane, int64 position)
{
	ObxOpen    *open = lane->open == NULL ? NULL :
	hash_search(lane->open, &position, HASH_FIND, NULL);

	if (open == NULL && !lane->is_partial)
		elog(ERROR, "delivery of position " INT64_FORMAT " is not open", position);
	return open;
}

static ObxOpen *
first_open(const ObxWaiting *waiting)
{
	return dlist_head_element(ObxOpen, node, unconstify(dlist_head *, &waiting->open));
}

/* Puts it in its place among those it waits for; mostly it is the last one. */
static void
insert_by_position(ObxWaiting *waiting, ObxOpen *open)
{
	dlist_node *node = &waiting->open.head;

	while (dlist_has_prev(&waiting->open, node))
	{
		node = dlist_prev_node(&waiting->open, node);
		if (dlist_container(ObxOpen, node, node)->position < open->position)
		{
			dlist_insert_after(node, &open->node);
			return;
		}
	}
	dlist_push_head(&waiting->open, &open->node);
}

/* Out of the heap and the list that it is in. */
static void
remove_retry(ObxLane *lane, ObxOpen *open)
{
	if (open->state == OBX_DELIVERY_RETRY)
	{
		pairingheap_remove(open->is_due ? lane->due : lane->later, &open->retry);
		if (open->waiting != NULL)
			dlist_delete(&open->among_retries);
	}
	open->is_due = false;
}

static void
set_state(ObxLane *lane, ObxOpen *open, ObxDeliveryState state, TimestampTz next_at)
{
	remove_retry(lane, open);
	open->state = state;
	open->next_at = next_at;
	if (state == OBX_DELIVERY_RETRY)
	{
		pairingheap_add(lane->later, &open->retry);
		if (open->waiting != NULL)
			dlist_push_tail(&open->waiting->retries, &open->among_retries);
	}
}

static void
note_stale(ObxLane *lane, ObxWaiting *waiting)
{
	MemoryContext old;

	if (waiting == NULL || waiting->stale)
		return;
	old = MemoryContextSwitchTo(lane->memory);
	waiting->stale = true;
	lane->stale = lappend(lane->stale, waiting);
	MemoryContextSwitchTo(old);
}

/* Its waiting ones, NULL for none. */
static ObxWaiting *
add_open(ObxLane *lane, const ObxDelivery *delivery)
{
	ObxOpen    *open;
	bool		found;

	if (lane->open == NULL)
	{
		MemoryContext old = CurrentMemoryContext;

		if (lane->memory == NULL)
			lane->memory = AllocSetContextCreate(TopMemoryContext, "pg_outbox lane",
												 ALLOCSET_SMALL_SIZES);
		MemoryContextSwitchTo(lane->memory);
		lane->open = make_table("pg_outbox open deliveries", sizeof(ObxOpen), lane->memory);
		lane->waiting = make_table("pg_outbox blocked keys", sizeof(ObxWaiting), lane->memory);
		lane->later = pairingheap_allocate(compare_times, NULL);
		lane->due = pairingheap_allocate(compare_positions, NULL);
		MemoryContextSwitchTo(old);
	}
	open = hash_search(lane->open, &delivery->position, HASH_ENTER, &found);
	if (found)
	{
		set_state(lane, open, delivery->state, delivery->next_at);
		return open->waiting;
	}
	open->event_id = delivery->event_id;
	open->xid = delivery->xid;
	open->state = OBX_DELIVERY_PARKED;
	open->is_due = false;
	open->waiting = require_waiting(lane, delivery);
	if (open->waiting != NULL)
		insert_by_position(open->waiting, open);
	set_state(lane, open, delivery->state, delivery->next_at);
	return open->waiting;
}

/* A retry noted by a clock that was ahead is due. */
static ObxWaiting *
load_open(ObxLane *lane, ObxDelivery *delivery)
{
	bool		has_own_wait = lane->has_own_waits && delivery->failed_at != 0;

	if (delivery->state == OBX_DELIVERY_RETRY &&
		((!has_own_wait && obx_clock_was_ahead(delivery->next_at, lane->longest_wait)) ||
		 obx_clock_was_ahead(delivery->failed_at, 0)))
		delivery->next_at = lane->looked_at;
	return add_open(lane, delivery);
}

/* So many of a key are loaded at a time. */
#define FIRST_LOADED	16
#define MORE_LOADED		200

typedef struct Loading
{
	ObxLane    *lane;
	ObxWaiting *waiting;
	int			count;			/* of them */
	int			most;
	bool		ends;			/* with so many of them */
} Loading;

/* ObxDeliveryVisitor: one of some that are loaded in the order of positions. */
static bool
load_some(ObxDelivery *delivery, void *arg)
{
	Loading    *loading = arg;
	ObxWaiting *waiting = load_open(loading->lane, delivery);

	if (waiting == NULL)
		return true;
	if (waiting != loading->waiting)
		loading->count = 0;
	loading->waiting = waiting;
	waiting->loaded_to = delivery->position;
	waiting->has_more = ++loading->count == loading->most;
	if (waiting->has_more)
		loading->lane->is_partial = true;
	return !(loading->ends && waiting->has_more);
}

/* Loads those up to a position, and some behind it. */
static void
load_behind(ObxLane *lane, ObxWaiting *waiting, int64 position)
{
	while (waiting->has_more && waiting->loaded_to < position)
	{
		Loading		loading = {
			.lane = lane,.waiting = waiting,.most = MORE_LOADED,.ends = true
		};
		bool		strict = lane->ordering == OBX_ORDERING_STRICT;

		waiting->has_more = false;
		obx_delivery_visit_behind(lane->key.subscription, lane->key.lane,
								  strict ? NULL : &waiting->key_hash, waiting->loaded_to,
								  load_some, &loading);
	}
}

/* Loads the first ones of each key. */
static void
load_first(ObxLane *lane)
{
	bool		strict = lane->ordering == OBX_ORDERING_STRICT;
	Loading		loading = {.lane = lane,.most = FIRST_LOADED,.ends = strict};

	if (lane->ordering == OBX_ORDERING_KEY)
		obx_delivery_visit_first(lane->key.subscription, lane->key.lane, FIRST_LOADED, load_some,
								 &loading);
	else
		obx_delivery_visit_behind(lane->key.subscription, lane->key.lane, NULL, PG_INT64_MIN,
								  load_some, &loading);
}

/* One that is parked behind others that are not loaded is loaded with them. */
void
obx_lane_add(ObxLane *lane, const ObxDelivery *delivery)
{
	ObxWaiting *waiting = lane->open == NULL ? NULL : require_waiting(lane, delivery);

	if (waiting != NULL && waiting->has_more && waiting->loaded_to < delivery->position)
	{
		if (delivery->state == OBX_DELIVERY_PARKED)
			return;
		load_behind(lane, waiting, delivery->position);
	}
	note_stale(lane, add_open(lane, delivery));
}

void
obx_lane_remove(ObxLane *lane, int64 position)
{
	ObxOpen    *open = find_open(lane, position);

	if (open == NULL)
		return;
	remove_retry(lane, open);
	if (open->waiting != NULL)
	{
		dlist_delete(&open->node);
		note_stale(lane, open->waiting);
	}
	hash_search(lane->open, &position, HASH_REMOVE, NULL);
}

void
obx_lane_change(ObxLane *lane, const ObxDelivery *delivery)
{
	ObxOpen    *open;

	if (!delivery->open)
	{
		obx_lane_remove(lane, delivery->position);
		return;
	}
	if (lane->is_partial)
	{
		ObxWaiting *waiting = require_waiting(lane, delivery);

		if (waiting != NULL)
			load_behind(lane, waiting, delivery->position);
	}
	open = find_open(lane, delivery->position);
	Assert(open != NULL);
	set_state(lane, open, delivery->state, delivery->next_at);
	note_stale(lane, open->waiting);
}

ObxLane *
obx_lane_load(const ObxSubscription *subscription, int32 lane_number, int64 version)
{
	ObxLane    *lane = find_or_make(subscription->id, lane_number);
	Oid			catalog = obx_object_require(OBX_SUBSCRIPTION);
	TimestampTz now = GetCurrentTimestamp();
	bool		was_ahead = now < lane->looked_at - OBX_CLOCK_STEP;

	lane->looked_at = now;
	lane->longest_wait = Max(subscription->backoff, subscription->max_backoff);
	lane->has_own_waits = subscription->kind == OBX_KIND_PULL;
	if (was_ahead || lane->version != version || lane->catalog != catalog ||
		lane->ordering != subscription->ordering)
	{
		lane->version = -1;
		lane->ordering = subscription->ordering;
		empty_lane(lane);
		load_first(lane);
		lane->version = version;
		lane->catalog = catalog;
	}
	lane->loaded_in = GetCurrentSubTransactionId();
	return lane;
}

/* ---- asking ---- */

bool
obx_lane_is_blocked(const ObxLane *lane, ObxOrderKey key)
{
	return key.has && lane->ordering == OBX_ORDERING_KEY && find_waiting(lane, key.hash) != NULL;
}

bool
obx_lane_is_blocked_at(const ObxLane *lane, ObxOrderKey key, int64 position)
{
	return obx_lane_is_blocked(lane, key) &&
		first_open(find_waiting(lane, key.hash))->position < position;
}

bool
obx_lane_has(const ObxLane *lane, int64 position)
{
	const ObxDelivery *delivery;

	if (lane->open != NULL && hash_search(lane->open, &position, HASH_FIND, NULL) != NULL)
		return true;
	if (!lane->is_partial)
		return false;
	delivery = obx_delivery_find(lane->key.subscription, position);
	return delivery != NULL && delivery->open && delivery->lane == lane->key.lane;
}

TimestampTz
obx_lane_due(const ObxLane *lane)
{
	if (lane->open == NULL)
		return DT_NOEND;
	if (!pairingheap_is_empty(lane->due))
		return first_of(lane->due)->next_at;
	return pairingheap_is_empty(lane->later) ? DT_NOEND : first_of(lane->later)->next_at;
}

int64
obx_lane_first_strict(const ObxLane *lane)
{
	ObxWaiting *waiting = lane->ordering == OBX_ORDERING_STRICT ? find_waiting(lane, 0) : NULL;

	return waiting == NULL ? PG_INT64_MAX : first_open(waiting)->position;
}

/* What is parked behind it and would be next of its key, NULL for none. */
static ObxOpen *
next_parked(ObxLane *lane, ObxOpen *open)
{
	ObxOpen    *next;

	if (open->waiting == NULL)
		return NULL;
	if (!dlist_has_next(&open->waiting->open, &open->node))
		load_behind(lane, open->waiting, open->waiting->loaded_to + 1);
	if (!dlist_has_next(&open->waiting->open, &open->node))
		return NULL;
	next = dlist_container(ObxOpen, node, dlist_next_node(&open->waiting->open, &open->node));
	return next->state == OBX_DELIVERY_PARKED ? next : NULL;
}

/*
 * What is parked comes into the heap when the one before it is taken, and for
 * that long; the retries go back to it, for they are due until dealt with.
 */
ObxOpen   **
obx_lane_list_due(ObxLane *lane, TimestampTz now, int64 before, int limit, int *count)
{
	ObxOpen   **list;
	pairingheap *due = lane->due;

	*count = 0;
	if (obx_lane_due(lane) > now)
		return NULL;
	while (!pairingheap_is_empty(lane->later) && first_of(lane->later)->next_at <= now)
	{
		ObxOpen    *open = first_of(lane->later);

		pairingheap_remove_first(lane->later);
		open->is_due = true;
		pairingheap_add(due, &open->retry);
	}

	list = palloc(limit * sizeof(ObxOpen *));
	while (*count < limit && !pairingheap_is_empty(due) && first_of(due)->position < before)
	{
		ObxOpen    *open = first_of(due);
		ObxOpen    *next = next_parked(lane, open);

		pairingheap_remove_first(due);
		open->is_due = false;
		list[(*count)++] = open;
		if (next != NULL)
		{
			next->is_due = true;
			pairingheap_add(due, &next->retry);
		}
	}
	for (int i = 0; i < *count; i++)
	{
		ObxOpen    *next = next_parked(lane, list[i]);

		if (next != NULL && next->is_due)
		{
			pairingheap_remove(due, &next->retry);
			next->is_due = false;
		}
	}
	for (int i = 0; i < *count; i++)
	{
		list[i]->is_due = list[i]->state == OBX_DELIVERY_RETRY;
		if (list[i]->is_due)
			pairingheap_add(due, &list[i]->retry);
	}
	return list;
}

/* ---- settling ---- */

void
obx_lane_forget(ObxLane *lane)
{
	lane->version = -1;
}

/* Writes the row, if it becomes different. */
static void
refresh_open(ObxLane *lane, ObxOpen *open, bool is_first)
{
	ObxDelivery *delivery;

	if (open->state != (is_first ? OBX_DELIVERY_PARKED : OBX_DELIVERY_RETRY))
		return;
	delivery = obx_delivery_find(lane->key.subscription, open->position);
	if (delivery == NULL)
		elog(ERROR, "delivery of position " INT64_FORMAT " is gone", open->position);
	if (obx_settle_delivery(delivery, is_first))
		set_state(lane, open, delivery->state, delivery->next_at);
}

/* The list of retries is changed meanwhile, but for its next one. */
static void
refresh_head(ObxLane *lane, ObxWaiting *waiting)
{
	ObxOpen    *first = first_open(waiting);
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &waiting->retries)
	{
		ObxOpen    *open = dlist_container(ObxOpen, among_retries, iter.cur);

		if (open != first)
			refresh_open(lane, open, false);
	}
	refresh_open(lane, first, true);
}

/*
 * The first can have become so by removing others.  Behind it there may be any
 * number of retries: a batch fails them in order, but consumers that pull nack
 * their events in any, and what is added may come before them all.
 */
void
obx_lane_refresh_heads(ObxLane *lane)
{
	ListCell   *lc;

	foreach(lc, lane->stale)
	{
		ObxWaiting *waiting = lfirst(lc);

		waiting->stale = false;
		if (dlist_is_empty(&waiting->open))
			load_behind(lane, waiting, waiting->loaded_to + 1);
		if (dlist_is_empty(&waiting->open))
			hash_search(lane->waiting, &waiting->key_hash, HASH_REMOVE, NULL);
		else
			refresh_head(lane, waiting);
	}
	list_free(lane->stale);
	lane->stale = NIL;
}
