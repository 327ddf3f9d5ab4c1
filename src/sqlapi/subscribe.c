/*
 * outbox.subscribe(), unsubscribe(), pause() and resume().
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/delivery.h"
#include "catalog/names.h"
#include "catalog/progress.h"
#include "delivery/target.h"
#include "dispatch/filter.h"
#include "dispatch/lane.h"
#include "log/generation.h"
#include "log/segment.h"
#include "sqlapi/argument.h"
#include "sqlapi/handler.h"

PG_FUNCTION_INFO_V1(obx_sql_subscribe);
PG_FUNCTION_INFO_V1(obx_sql_unsubscribe);
PG_FUNCTION_INFO_V1(obx_sql_pause);
PG_FUNCTION_INFO_V1(obx_sql_resume);

/* subscribe()'s arguments, by number */
enum
{
	NAME,
	TYPES,
	HANDLER,
	CHANNEL,
	FILTER,
	START,
	ORDERING,
	CONCURRENCY,
	BATCH_SIZE,
	MAX_ATTEMPTS,
	BACKOFF,
	MAX_BACKOFF,
	TIMEOUT,
	ON_EXHAUSTED,
	PAYLOAD
};

/* Lanes of a subscription; their number is part of a lock's tag. */
#define OBX_MAX_CONCURRENCY 1000

#define OBX_MAX_BATCH_SIZE 100000

/* ---- arguments ---- */

/* One of a few words, by its index. */
static int
require_word(FunctionCallInfo fcinfo, int number, const char *name,
			 const char *const *words, int nwords)
{
	char	   *value = obx_argument_require_text(fcinfo, number, name);
	StringInfoData list;

	for (int i = 0; i < nwords; i++)
		if (strcmp(value, words[i]) == 0)
			return i;

	initStringInfo(&list);
	for (int i = 0; i < nwords; i++)
		appendStringInfo(&list, "%s\"%s\"", i > 0 ? ", " : "", words[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for argument \"%s\": \"%s\"", name, value),
			 errdetail("Valid values are %s.", list.data),
			 errhint("Choose one of them.")));
	return 0;					/* keep the compiler quiet */
}

static void
check_name(const char *name)
{
	if (name[0] == '\0' || strlen(name) > 200)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a subscription: \"%s\"", name),
				 errdetail("A name has 1 to 200 bytes."),
				 errhint("Name what the subscriber does.")));
}

static void
check_channel(const char *channel)
{
	if (channel[0] == '\0' || strlen(channel) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid channel name: \"%s\"", channel),
				 errdetail("A channel has 1 to %d bytes.", NAMEDATALEN - 1),
				 errhint("Choose a shorter name.")));
}

/* A worker connects as the owner: servers before 17 need LOGIN for that. */
static void
warn_without_login(Oid owner)
{
#ifdef OBX_WORKERS_NEED_LOGIN
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool		can_login = HeapTupleIsValid(tuple) &&
	((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!can_login)
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("role \"%s\" cannot log in, so no background worker can serve its subscriptions",
						GetUserNameFromId(owner, true)),
				 errhint("ALTER ROLE ... LOGIN (a password is not needed), or CALL outbox.run() as that role.")));
#endif
}

static void
fill_subscription(FunctionCallInfo fcinfo, ObxSubscription *subscription)
{
	static const char *const orderings[] = {"key", "strict", "none"};
	static const char *const exhausted[] = {"dead_letter", "block"};
	static const char *const payloads[] = {"reference", "event"};
	char	   *handler;

	subscription->name = obx_argument_require_text(fcinfo, NAME, "name");
	check_name(subscription->name);
	subscription->owner = GetUserId();
	subscription->types = obx_argument_require_patterns(fcinfo, TYPES, "types",
														&subscription->ntypes);
	handler = obx_argument_text(fcinfo, HANDLER);
	subscription->channel = obx_argument_text(fcinfo, CHANNEL);
	if (handler != NULL && subscription->channel != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a subscription has a handler or a channel, not both"),
				 errhint("Make two subscriptions.")));
	if (handler != NULL)
	{
		subscription->kind = OBX_KIND_FUNCTION;
		obx_handler_resolve(handler, subscription);
	}
	else if (subscription->channel != NULL)
	{
		subscription->kind = OBX_KIND_CHANNEL;
		check_channel(subscription->channel);
	}
	else
		subscription->kind = OBX_KIND_PULL;
	subscription->filter = obx_argument_text(fcinfo, FILTER);

	subscription->ordering = require_word(fcinfo, ORDERING, "ordering", orderings,
										  lengthof(orderings));
	subscription->concurrency = obx_argument_require_number(fcinfo, CONCURRENCY, "concurrency",
															false, 1, OBX_MAX_CONCURRENCY);
	if (subscription->ordering == OBX_ORDERING_STRICT && subscription->concurrency > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("strict ordering has a concurrency of 1"),
				 errdetail("Lanes progress independently of one another."),
				 errhint("Use ordering => 'key', or concurrency => 1.")));
	subscription->batch_size = obx_argument_require_number(fcinfo, BATCH_SIZE, "batch_size",
														   false, 1, OBX_MAX_BATCH_SIZE);
	subscription->max_attempts = obx_argument_require_number(fcinfo, MAX_ATTEMPTS,
															 "max_attempts", false, 1, INT_MAX);
	subscription->backoff = obx_argument_require_interval(fcinfo, BACKOFF, "backoff");
	subscription->max_backoff = obx_argument_require_interval(fcinfo, MAX_BACKOFF,
															  "max_backoff");
	subscription->timeout = obx_argument_require_interval(fcinfo, TIMEOUT, "timeout");
	subscription->block_on_exhausted = require_word(fcinfo, ON_EXHAUSTED, "on_exhausted",
													exhausted, lengthof(exhausted)) == 1;
	subscription->payload_event = require_word(fcinfo, PAYLOAD, "payload", payloads,
											   lengthof(payloads)) == 1;
	subscription->search_path = pstrdup(namespace_search_path);
	subscription->created_at = GetCurrentTimestamp();
	if (subscription->filter != NULL)
		obx_filter_check(subscription);
}

/* ---- where to start ---- */

/*
 * What has ended now, with the own transaction as running: a snapshot does
 * not list it, but the events of the transaction that subscribes are wanted.
 */
static Datum
make_start_snapshot(void)
{
	ObxSnapshot *snapshot;
	uint64		xid = obx_xid_own_if_any();
	Datum		result;

	PushActiveSnapshot(GetLatestSnapshot());
	snapshot = obx_snapshot_current();
	PopActiveSnapshot();

	if (xid != 0 && obx_snapshot_has_ended(snapshot, xid))
	{
		int			i = snapshot->nrunning++;

		snapshot->running = repalloc(snapshot->running,
									 (snapshot->nrunning + 1) * sizeof(uint64));
		for (; i > 0 && snapshot->running[i - 1] > xid; i--)
			snapshot->running[i] = snapshot->running[i - 1];
		snapshot->running[i] = xid;
		snapshot->xmin = Min(snapshot->xmin, xid);
	}
	result = obx_snapshot_to_datum(snapshot);
	return result;
}

static int64
parse_position(const char *start)
{
	int64		oldest = obx_segment_oldest(NULL);
	int64		head = obx_segment_head(NULL);
	int64		position;

	errno = 0;
	position = strtoll(start, NULL, 10);
	if (oldest == 0)
		oldest = head + 1;
	if (errno != 0 || position < oldest || position > head + 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position %s is outside of what is kept", start),
				 errdetail("Positions " INT64_FORMAT " to " INT64_FORMAT
						   " are kept, the next to come is " INT64_FORMAT ".",
						   oldest, head, head + 1),
				 errhint("Choose one of those, or start => 'beginning'.")));
	return position;
}

/* What is no timestamp may have been meant as one of the words. */
static void
hint_at_start(void *arg)
{
	errhint("A subscription starts at 'now', at the 'beginning', at a position or at a timestamp.");
}

/* The first position of a segment made at or after that time. */
static int64
find_time_position(const char *start)
{
	ErrorContextCallback context = {
		.previous = error_context_stack,
		.callback = hint_at_start
	};
	TimestampTz time;
	ObxSegment *segment;

	error_context_stack = &context;
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(start),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
	error_context_stack = context.previous;
	segment = obx_segment_find_since(time, NULL);
	return segment != NULL ? segment->first_position : obx_segment_head(NULL) + 1;
}

/*
 * The position to deliver first, and for 'now' what is not to be delivered.
 * Retention drops nothing from there on until the subscription is committed.
 */
static int64
find_start(const char *start, ObxSubscription *subscription)
{
	LockRelationOid(obx_object_require(OBX_EVENT), AccessShareLock);
	if (strcmp(start, "now") == 0)
	{
		/* in this order: what gets a position in between had ended */
		int64		head = obx_segment_head(NULL);

		subscription->start_snapshot = make_start_snapshot();
		return head + 1;
	}
	if (strcmp(start, "beginning") == 0)
	{
		int64		oldest = obx_segment_oldest(NULL);

		return oldest > 0 ? oldest : obx_segment_head(NULL) + 1;
	}
	if (start[0] != '\0' && strspn(start, "0123456789") == strlen(start))
		return parse_position(start);
	return find_time_position(start);
}

/* ---- functions ---- */

/*
 * subscribe(name, types, handler, channel, filter, start, ordering,
 * concurrency, batch_size, max_attempts, backoff, max_backoff, timeout,
 * on_exhausted, payload)
 */
Datum
obx_sql_subscribe(PG_FUNCTION_ARGS)
{
	ObxSubscription subscription = {0};
	char	   *start;
	int64		first;

	PreventCommandIfReadOnly("outbox.subscribe()");
	(void) obx_xid_offset();	/* see set_paused() */
	fill_subscription(fcinfo, &subscription);
	start = obx_argument_require_text(fcinfo, START, "start");
	if (obx_subscription_find_by_name(subscription.name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("subscription \"%s\" already exists", subscription.name),
				 errhint("Choose another name, or remove it with outbox.unsubscribe().")));
	if (subscription.kind != OBX_KIND_PULL)
		warn_without_login(subscription.owner);

	first = find_start(start, &subscription);
	obx_subscription_insert(&subscription);
	for (int lane = 0; lane < subscription.concurrency; lane++)
	{
		ObxProgress progress = {
			.subscription = subscription.id,
			.lane = lane,
			.position = first - 1
		};

		obx_progress_advance(&progress);
	}
	obx_doorbell_arm_configuration();
	PG_RETURN_VOID();
}

/*
 * unsubscribe(name): a lane that is being served keeps its rows, which are
 * cleaned later; its pass finds the subscription gone and undoes its batch.
 */
Datum
obx_sql_unsubscribe(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription;
	bool		idle = true;

	PreventCommandIfReadOnly("outbox.unsubscribe()");
	subscription = obx_argument_lock_subscription(fcinfo, "name");
	obx_subscription_delete(subscription->id);
	for (int lane = 0; lane < subscription->concurrency && idle; lane++)
		idle = obx_lane_lock(subscription->id, lane, false);
	if (idle && obx_progress_delete(subscription->id))
	{
		obx_delivery_delete_all(subscription->id, false);
		obx_failure_delete(subscription->id);
	}
	obx_doorbell_arm_configuration();
	PG_RETURN_VOID();
}

static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	ObxSubscription *subscription;

	/* a copy that nobody has noticed yet pauses everything, before us */
	(void) obx_xid_offset();
	subscription = obx_argument_lock_subscription(fcinfo, "name");
	if (subscription->paused == paused)
		return;
	subscription->paused = paused;
	obx_subscription_update(subscription);
	obx_doorbell_arm_configuration();
}

Datum
obx_sql_pause(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.pause()");
	set_paused(fcinfo, true);
	PG_RETURN_VOID();
}

Datum
obx_sql_resume(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.resume()");
	set_paused(fcinfo, false);
	PG_RETURN_VOID();
}
