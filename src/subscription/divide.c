/*
 * All lanes of a subscription at once: moving them, and dividing them anew.
 *
 * New lanes begin at the position of the hindmost former lane.  What the
 * others had passed already is remembered in the subscription's history and
 * skipped; what was open moves to its new lane.  So nothing has to wait until
 * the lanes have met.
 *
 * Locks: the subscription's, held by the caller, and those of all lanes, in
 * the order of their numbers: a batch under way is waited for, and no other
 * begins.  Every lane gets a version higher than any that one of the
 * subscription's lanes ever had, for processes know lanes by their versions.
 *
 * Must not know SQL's arguments, nor rights.
 */
#include "postgres.h"

#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "catalog/window.h"
#include "dispatch/former_lanes.h"
#include "dispatch/lane.h"
#include "dispatch/match.h"
#include "dispatch/settle.h"
#include "log/find.h"
#include "log/read.h"
#include "log/segment.h"
#include "pull/lane.h"
#include "subscription/divide.h"

/* ---- lanes ---- */

static void
lock_lanes(int32 subscription, int count)
{
	for (int lane = 0; lane < count; lane++)
		obx_lane_lock(subscription, lane, true);
}

/* The progress of all lanes, in an array. */
static ObxProgress *
read_lanes(const ObxSubscription *subscription)
{
	ObxProgress *lanes = palloc0(subscription->concurrency * sizeof(ObxProgress));

	for (int lane = 0; lane < subscription->concurrency; lane++)
		if (!obx_progress_find(subscription->id, lane, &lanes[lane]))
			elog(ERROR, "lane %d of subscription \"%s\" has no progress", lane,
				 subscription->name);
	return lanes;
}

/* The lanes as they stand, as a part of the history. */
static ObxFormerLanes *
make_stretch(const ObxSubscription *subscription, const ObxProgress *lanes)
{
	int64	   *passed = palloc(subscription->concurrency * sizeof(int64));

	for (int lane = 0; lane < subscription->concurrency; lane++)
		passed[lane] = lanes[lane].position;
	return obx_former_lanes_make(subscription, passed);
}

static int64
oldest_kept(void)
{
	int64		oldest = obx_segment_oldest(NULL);

	return oldest > 0 ? oldest : obx_segment_head(NULL) + 1;
}

/* ---- seeking ---- */

/*
 * With start => 'now', events that had been committed before were not
 * delivered; they come first, except in transactions that were sequenced
 * together.
 */
static int64
first_delivered(const ObxSubscription *subscription, int64 last)
{
	ObxXidSnapshot *start;
	ObxReader  *reader;
	ObxReadEvent event;
	int64		first = subscription->first_position;

	if (subscription->start_snapshot == (Datum) 0 || last < first)
		return first;
	start = obx_xid_snapshot_from_datum(subscription->start_snapshot);
	PushActiveSnapshot(GetLatestSnapshot());
	reader = obx_reader_begin(GetActiveSnapshot(), first - 1, 0, false);
	while (first <= last && obx_reader_next(reader, &event) &&
		   obx_xid_snapshot_has_ended(start, event.xid))
	{
		CHECK_FOR_INTERRUPTS();
		first = event.position + 1;
	}
	obx_reader_end(reader);
	PopActiveSnapshot();
	return first;
}

/* Remembers what was delivered, to tell its replay. */
static void
remember_delivered(ObxSubscription *subscription, const ObxProgress *lanes)
{
	List	   *history = obx_former_lanes_replay(obx_former_lanes_list(subscription));
	ObxFormerLanes *stretch = make_stretch(subscription, lanes);

	stretch->first = first_delivered(subscription, stretch->last);
	stretch->replayed = true;
	history = obx_former_lanes_add(history, stretch);
	obx_former_lanes_set(subscription, obx_former_lanes_trim(history, 0, oldest_kept()));
}

typedef struct Seeking
{
	int64		position;
	ObxDropped *dropped;
} Seeking;

/*
 * ObxDeliveryVisitor: drops what is open.  Dead letters stay, but the ones that
 * will be met again cannot be waited for.
 */
static bool
drop_open(ObxDelivery *delivery, void *arg)
{
	const Seeking *seeking = arg;

	switch (delivery->state)
	{
		case OBX_DELIVERY_RETRY:
			seeking->dropped->retries++;
			break;
		case OBX_DELIVERY_PARKED:
			seeking->dropped->parked++;
			break;
		case OBX_DELIVERY_DEAD:
			if (delivery->open && delivery->position >= seeking->position)
			{
				delivery->open = false;
				obx_delivery_update(delivery);
			}
			return true;
	}
	obx_delivery_delete(delivery->subscription, delivery->position);
	return true;
}

void
obx_divide_seek(ObxSubscription *subscription, int64 position, ObxDropped *dropped)
{
	ObxProgress *lanes;
	Seeking		seeking = {.position = position,.dropped = dropped};

	lock_lanes(subscription->id, subscription->concurrency);
	lanes = read_lanes(subscription);
	remember_delivered(subscription, lanes);
	obx_delivery_visit(subscription->id, drop_open, &seeking);

	if (subscription->kind == OBX_KIND_AGGREGATE)
		obx_window_delete_all(subscription->id, &dropped->windows);
	(void) obx_failure_clear(subscription->id);
	subscription->first_position = position;
	subscription->start_snapshot = (Datum) 0;
	subscription->seeks++;
	subscription->delivered_at_seek = 0;
	for (int lane = 0; lane < subscription->concurrency; lane++)
		subscription->delivered_at_seek += lanes[lane].delivered;
	obx_subscription_update(subscription);
	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		obx_pull_lane_drop(&lanes[lane]);
		lanes[lane].due = 0;
		lanes[lane].position = position - 1;
		lanes[lane].event_id = 0;
		obx_progress_advance(&lanes[lane]);
	}
	obx_doorbell_arm_configuration();
}

/* ---- dividing anew ---- */

/*
 * Events that were read for consumers and are not acked become open
 * deliveries, as if they had been parked: then the lane stands behind them.
 */
static void
take_back(const ObxSubscription *subscription, ObxProgress *progress)
{
	ObxPullLane work = {.subscription = subscription,.progress = *progress};
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox events taken back",
												 ALLOCSET_DEFAULT_SIZES);
	int			taken = 0;

	obx_progress_load(&work.progress);
	if (progress->owed.count > 0)
	{
		progress->position = progress->read_position;
		progress->event_id = progress->read_id;
	}
	obx_pull_lane_load(&work);
	PushActiveSnapshot(GetLatestSnapshot());
	while (taken < work.progress.owed.count)
	{
		int			count = Min(work.progress.owed.count - taken, 1000);
		MemoryContext old = MemoryContextSwitchTo(memory);

		CHECK_FOR_INTERRUPTS();
		work.batch = obx_pull_lane_make_batch(&work, count);
		taken += obx_batch_collect_positions(work.batch, &work.progress.owed.list[taken], count);
		for (int i = 0; i < work.batch->nitems; i++)
			obx_batch_park(work.batch, &work.batch->items[i]);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	PopActiveSnapshot();
	MemoryContextDelete(memory);
	obx_pull_lane_drop(progress);
}

static bool
is_wanted(const ObxSubscription *new, TupleTableSlot *event)
{
	bool		isnull;
	text	   *type = DatumGetTextPP(slot_getattr(event, OBX_EVENT_TYPE + 1, &isnull));

	return obx_patterns_match(new->types, new->ntypes, VARDATA_ANY(type),
							  VARSIZE_ANY_EXHDR(type));
}

typedef struct Moving
{
	const ObxSubscription *old;
	const ObxSubscription *new;
	TupleTableSlot *event;
} Moving;

/* ObxDeliveryVisitor: to its new lane, or away if it is not asked for any more. */
static bool
move_delivery(ObxDelivery *delivery, void *arg)
{
	const Moving *moving = arg;
	const ObxSubscription *old = moving->old;
	const ObxSubscription *new = moving->new;

	if (old->types != new->types || old->ordering != new->ordering)
	{
		if (obx_event_find(GetActiveSnapshot(), delivery->xid, delivery->event_id,
						   delivery->position, moving->event))
		{
			if (delivery->state != OBX_DELIVERY_DEAD && !is_wanted(new, moving->event))
			{
				obx_delivery_delete(delivery->subscription, delivery->position);
				return true;
			}
			obx_lane_key_of_event(new, moving->event, &delivery->key);
		}
	}
	delivery->lane = obx_lane_of_event(new->concurrency, delivery->key, delivery->event_id);
	if (delivery->state == OBX_DELIVERY_DEAD && !new->block_on_exhausted)
		delivery->open = false;

	/* nobody looks after one that is parked behind nothing */
	if (delivery->state == OBX_DELIVERY_PARKED && !delivery->key.has &&
		new->ordering != OBX_ORDERING_STRICT)
	{
		delivery->state = OBX_DELIVERY_RETRY;
		if (delivery->next_at == DT_NOEND)
			delivery->next_at = GetCurrentTimestamp();
	}
	obx_delivery_update(delivery);
	return true;
}

/* Moves open deliveries and dead letters to their new lanes. */
static void
move_deliveries(const ObxSubscription *old, const ObxSubscription *new)
{
	Moving		moving = {.old = old,.new = new,.event = obx_event_make_slot()};

	PushActiveSnapshot(GetLatestSnapshot());
	obx_delivery_visit(new->id, move_delivery, &moving);
	PopActiveSnapshot();
	ExecDropSingleTupleTableSlot(moving.event);
	for (int lane = 0; lane < new->concurrency; lane++)
		obx_settle_lane(new, lane);
}

/* The former lane that is farthest behind. */
static const ObxProgress *
find_hindmost(const ObxProgress *lanes, int count)
{
	const ObxProgress *hindmost = &lanes[0];

	for (int lane = 1; lane < count; lane++)
		if (lanes[lane].position < hindmost->position)
			hindmost = &lanes[lane];
	return hindmost;
}

/* Includes former lanes, as long as their rows are kept. */
static int64
highest_version(int32 subscription)
{
	ObxProgress progress;
	int64		version = 0;

	for (int lane = 0; obx_progress_find(subscription, lane, &progress); lane++)
		version = Max(version, progress.version);
	return version;
}

/* The new lanes' progress, with the counters of the old ones. */
static void
write_lanes(const ObxSubscription *old, const ObxSubscription *new, const ObxProgress *lanes,
			bool begin_anew)
{
	const ObxProgress *hindmost = find_hindmost(lanes, old->concurrency);
	ObxProgress *written = palloc0(new->concurrency * sizeof(ObxProgress));
	int64		version = highest_version(new->id);

	for (int lane = 0; lane < old->concurrency; lane++)
	{
		ObxProgress *heir = &written[lane < new->concurrency ? lane : 0];

		heir->due = obx_scheduled_earlier(heir->due, lanes[lane].due);
		heir->delivered += lanes[lane].delivered;
		heir->failed += lanes[lane].failed;
	}
	for (int lane = 0; lane < new->concurrency; lane++)
	{
		const ObxProgress *former = begin_anew ? hindmost : &lanes[lane];

		written[lane].subscription = new->id;
		written[lane].lane = lane;
		written[lane].version = version;
		written[lane].position = former->position;
		written[lane].event_id = former->event_id;
		obx_progress_advance(&written[lane]);
	}
}

bool
obx_divide_is_needed(const ObxSubscription *old, const ObxSubscription *new)
{
	return old->concurrency != new->concurrency || old->ordering != new->ordering ||
		old->types != new->types ||
		(old->kind == OBX_KIND_PULL && new->kind != OBX_KIND_PULL) ||
		(old->block_on_exhausted && !new->block_on_exhausted);
}

void
obx_divide_lanes(const ObxSubscription *old, ObxSubscription *new)
{
	ObxProgress *lanes;
	ObxFormerLanes *stretch;
	bool		begin_anew;
	List	   *history = obx_former_lanes_list(old);

	lock_lanes(old->id, Max(old->concurrency, new->concurrency));
	lanes = read_lanes(old);
	for (int lane = 0; lane < old->concurrency && old->kind == OBX_KIND_PULL; lane++)
		take_back(old, &lanes[lane]);

	stretch = make_stretch(old, lanes);
	begin_anew = !obx_former_lanes_divide_alike(stretch, obx_former_lanes_make(new, NULL));
	if (begin_anew)
		history = obx_former_lanes_add(history, stretch);
	obx_former_lanes_set(new, obx_former_lanes_trim(history,
													find_hindmost(lanes, old->concurrency)->position,
													oldest_kept()));
	move_deliveries(old, new);
	write_lanes(old, new, lanes, begin_anew);
	obx_doorbell_arm_configuration();
}
