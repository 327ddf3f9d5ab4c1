/*
 * Making subscriptions fit a log that was loaded.
 *
 * A restore brings tables one by one, and perhaps not all of them.  What must
 * hold between them is looked at once, before the first event is written to
 * what was loaded: no lane stands beyond the log's end, where it would go over
 * new events without a word; every lane stands somewhere; and no number that
 * is in use is given again.
 *
 * Where all events were left out, the log goes on behind the last position that
 * any subscription knows, so that no position is given twice.  Where a lane's
 * place cannot be told, the subscription stands until outbox.seek().
 *
 * The caller holds the segments' lock.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "base/identity.h"
#include "base/table.h"
#include "catalog/delivery.h"
#include "catalog/names.h"
#include "catalog/owner.h"
#include "catalog/progress.h"
#include "catalog/registered_type.h"
#include "catalog/schedule.h"
#include "catalog/sequence.h"
#include "catalog/subscription.h"
#include "subscription/restore.h"
#include "log/counter.h"
#include "log/generation.h"
#include "log/highest.h"
#include "log/segment.h"
#include "log/xid_snapshot.h"
#include "pull/lane.h"

/* How far a counter is stepped of whose values some may be in use outside. */
#define OBX_STEP 1000000

/* No counter comes so far between what a dump has of it. */
#define OBX_FAR INT64CONST(1000000000000)

/* The number that the query returns; 0 for none. */
static int64
query_number(const char *query)
{
	Relation	log = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	ObxIdentity former;
	bool		isnull;
	Datum		value;
	bool		pushed = obx_active_snapshot_ensure();

	obx_identity_assume(&former, log->rd_rel->relowner);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(query, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not execute \"%s\"", query);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	SPI_finish();
	obx_identity_restore(&former);
	obx_active_snapshot_release(pushed);
	table_close(log, NoLock);
	return isnull ? 0 : DatumGetInt64(value);
}

/* The highest id of an event that was given here. */
static int64
find_highest_given(void)
{
	return query_number("SELECT pg_catalog.max(m.id) FROM ("
						"SELECT pg_catalog.max(event_id) AS id FROM outbox.progress"
						" UNION ALL SELECT pg_catalog.max(event_id) FROM outbox.delivery"
						" UNION ALL SELECT pg_catalog.max(last_event_id) FROM outbox.aggregate_window"
						" UNION ALL SELECT pg_catalog.max(event_id) FROM outbox.seen_0"
						" WHERE consumer OPERATOR(pg_catalog.=) ''"
						" UNION ALL SELECT pg_catalog.max(event_id) FROM outbox.seen_1"
						" WHERE consumer OPERATOR(pg_catalog.=) ''"
						" UNION ALL SELECT pg_catalog.max(event_id) FROM outbox.seen_2"
						" WHERE consumer OPERATOR(pg_catalog.=) ''"
						" UNION ALL SELECT pg_catalog.max(first_id) FROM outbox.generation"
						" WHERE generation OPERATOR(pg_catalog.>) 0) m");
}

/*
 * The highest id of an event that our tables name.  outbox.once() notes what its
 * callers pass: an id far beyond those that were given must not use up the
 * counter.
 */
static int64
find_highest_id(void)
{
	int64		given = Max(find_highest_given(), obx_log_highest_id());
	int64		noted = query_number(psprintf("SELECT pg_catalog.max(m.event_id) FROM ("
											  "SELECT event_id FROM outbox.seen_0"
											  " UNION ALL SELECT event_id FROM outbox.seen_1"
											  " UNION ALL SELECT event_id FROM outbox.seen_2) m"
											  " WHERE m.event_id OPERATOR(pg_catalog.<) " INT64_FORMAT,
											  given + OBX_FAR));

	return Max(given, noted);
}

static int64
find_highest_subscription(void)
{
	return query_number("SELECT pg_catalog.max(m.id)::pg_catalog.int8 FROM ("
						"SELECT pg_catalog.max(id) AS id FROM outbox.subscription"
						" UNION ALL SELECT pg_catalog.max(subscription) FROM outbox.progress"
						" UNION ALL SELECT pg_catalog.max(subscription) FROM outbox.delivery"
						" UNION ALL SELECT pg_catalog.max(subscription) FROM outbox.aggregate_window"
						" UNION ALL SELECT pg_catalog.max(subscription) FROM outbox.failure) m");
}

/* Of the other sequences. */
static void
raise_counters(void)
{
	int64		schedule = obx_schedule_highest_id();
	int64		receipt = query_number("SELECT pg_catalog.max(receipt) FROM outbox.progress");

	obx_sequence_raise(OBX_SUBSCRIPTION_ID_SEQ, find_highest_subscription());
	if (schedule > 0)
		obx_sequence_raise(OBX_SCHEDULE_ID_SEQ, schedule + OBX_STEP);
	if (receipt > 0)
		obx_sequence_raise(OBX_RECEIPT_SEQ, receipt + OBX_STEP);
}

/* The last position that a lane of any subscription has dealt with, or read. */
static int64
find_last_position(void)
{
	int64		last = 0;
	int32		subscription = 0;
	int32		last_lane;

	while (obx_progress_next(&subscription, &last_lane))
		for (int32 lane = 0; lane <= last_lane; lane++)
		{
			ObxProgress progress;

			if (obx_progress_find(subscription, lane, &progress))
				last = Max(last, Max(progress.position, progress.read_position));
		}
	return last;
}

/* Lets the log, which has no events, go on behind that position. */
static void
begin_behind(int64 position)
{
	ObxSegment *last = obx_segment_find_last(NULL);
	ObxSegment	end = {
		.first_position = position + 1,
		.time = GetCurrentTimestamp(),
		.snapshot = last != NULL ? last->snapshot : obx_xid_snapshot_empty()
	};

	if (last != NULL && last->events == 0 && last->first_position == end.first_position)
		return;
	obx_segment_insert(&end, last);
	(void) obx_segment_delete(1, end.first_position, PG_INT64_MAX);
}

static bool
has_astray_lane(const ObxSubscription *subscription, int64 head)
{
	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxProgress progress;

		if (!obx_progress_find(subscription->id, lane, &progress) ||
			Max(progress.position, progress.read_position) > head)
			return true;
	}
	return false;
}

/*
 * Does one of the subscription's lanes stand beyond the log, or nowhere?  Its
 * lanes may have been divided anew after its row was read: then once more.
 */
static bool
is_astray(ObxSubscription **subscription, int64 head)
{
	while (has_astray_lane(*subscription, head))
	{
		ObxSubscription *now = obx_subscription_find((*subscription)->id);

		if (now == NULL)
			return false;
		if (now->concurrency == (*subscription)->concurrency)
			return true;
		*subscription = now;
	}
	return false;
}

/* The subscription stands still until somebody says where it should go on. */
static void
stop_lanes(const ObxSubscription *subscription)
{
	for (int lane = 0; lane < subscription->concurrency; lane++)
	{
		ObxProgress progress;

		if (!obx_progress_find(subscription->id, lane, &progress))
			progress = (ObxProgress)
		{
			.subscription = subscription->id,.lane = lane
		};
		progress.position = OBX_POSITION_UNKNOWN;
		progress.event_id = 0;
		obx_pull_lane_drop(&progress);
		obx_progress_advance(&progress);
	}
	(void) obx_failure_record(subscription->id, 0, OBX_UNKNOWN_ERROR);
	ereport(LOG,
			(errmsg("subscription \"%s\" is lost: %s", subscription->name, OBX_UNKNOWN_ERROR),
			 errhint("outbox.seek() lets it go on.")));
}

/*
 * Drops the types that came with the dump and stand for nothing here: a name
 * that is cut has another type in another encoding.  Those that stand for
 * something depend on its table, see catalog/owner.c.
 */
static void
drop_orphans(void)
{
	int64		orphan;
	const char *query =
	"SELECT pg_catalog.min(t.oid)::pg_catalog.int8 FROM pg_catalog.pg_type t"
	" WHERE t.typnamespace OPERATOR(pg_catalog.=) 'outbox'::pg_catalog.regnamespace"
	" AND NOT t.typisdefined"
	" AND (t.typname OPERATOR(pg_catalog.~) '^(subscription|event type)[ ~]')"
	" AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d"
	" WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass"
	" AND d.objid OPERATOR(pg_catalog.=) t.oid"
	" AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass)";

	CommandCounterIncrement();
	while ((orphan = query_number(query)) != 0)
	{
		ObjectAddress object;

		ObjectAddressSet(object, TypeRelationId, (Oid) orphan);
		performDeletion(&object, DROP_CASCADE,
						PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY);
		CommandCounterIncrement();
	}
}

/* obx_generation_on_load()'s "settle" */
static int64
settle(void)
{
	int64		head = obx_segment_head(NULL);
	int64		last = find_last_position();
	ListCell   *lc;

	raise_counters();
	if (!obx_log_has_events() && (last > head || obx_segment_oldest(NULL) > 0))
	{
		head = Max(head, last);
		begin_behind(head);
	}
	foreach(lc, obx_subscription_list())
	{
		ObxSubscription *subscription = lfirst(lc);

		if (is_astray(&subscription, head))
			stop_lanes(subscription);
		obx_owner_restore(OBX_OWNED_SUBSCRIPTION, subscription->name, subscription->owner);
	}
	obx_registered_type_restore_owners();
	drop_orphans();
	obx_doorbell_arm_configuration();
	return find_highest_id();
}

/* obx_generation_on_load()'s "needs_settling" */
static bool
needs_settling(void)
{
	return find_last_position() > 0 ||
		obx_schedule_highest_id() > obx_schedule_last_id();
}

/* obx_generation_noted_xid: where subscriptions begin */
static uint64
find_noted_xid(void)
{
	uint64		xid = 0;
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		const ObxSubscription *subscription = lfirst(lc);

		if (subscription->start_snapshot != (Datum) 0)
			xid = Max(xid, obx_xid_snapshot_from_datum(subscription->start_snapshot)->xmax);
	}
	return xid;
}

void
obx_restore_init(void)
{
	obx_generation_noted_xid = find_noted_xid;
	obx_counter_at_set = raise_counters;
	obx_generation_on_load(needs_settling, settle);
}
