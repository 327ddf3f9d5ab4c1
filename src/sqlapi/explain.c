/*
 * outbox.why_not_delivered(): where an event is, in words.
 *
 * Runs as the extension's owner.  No snapshot sees an event that is not
 * committed: then the function names the open transactions that have written
 * to the log, one of which may have emitted it.
 */
#include "postgres.h"


#include "base/compat.h"
#include "base/settings.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "log/find.h"
#include "log/generation.h"
#include "log/read.h"
#include "log/segment.h"
#include "sqlapi/argument.h"
#include "sqlapi/behind.h"
#include "subscription/outcome.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker/slot.h"

PG_FUNCTION_INFO_V1(obx_sql_why_not_delivered);

/* ---- queries ---- */

/* Returns the number of rows, which are in SPI_tuptable. */
static uint64
query_rows(const char *query, int nargs, Oid *types, Datum *values)
{
	if (SPI_execute_with_args(query, nargs, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not execute \"%s\"", query);
	return SPI_processed;
}

static char *
get_string(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

/* ---- not in the log ---- */

/* Appends a line for each other transaction that has written to the log and is open. */
static int
append_writers(StringInfo out)
{
	uint64		count = query_rows("SELECT pg_catalog.format('  pid %s (%s%s), %s in a transaction since %s', l.pid,"
								   "    a.usename, ', ' || nullif(a.application_name, ''), a.state, a.xact_start)"
								   " FROM (SELECT DISTINCT k.pid FROM pg_catalog.pg_locks k"
								   "       JOIN pg_catalog.pg_inherits i ON i.inhrelid = k.relation"
								   "       WHERE i.inhparent = 'outbox.event'::pg_catalog.regclass AND k.mode = 'RowExclusiveLock'"
								   "         AND k.granted AND k.database = (SELECT oid FROM pg_catalog.pg_database"
								   "                                         WHERE datname = pg_catalog.current_database())"
								   "         AND k.pid IS NOT NULL AND k.pid <> pg_catalog.pg_backend_pid()) AS l"
								   " JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
								   " UNION ALL "
								   "SELECT pg_catalog.format('  prepared transaction %L of %s, since %s', p.gid, p.owner, p.prepared)"
								   " FROM pg_catalog.pg_prepared_xacts p"
								   " WHERE p.database = pg_catalog.current_database() AND EXISTS ("
								   "    SELECT FROM pg_catalog.pg_locks k"
								   "    JOIN pg_catalog.pg_inherits i ON i.inhrelid = k.relation"
								   "    JOIN pg_catalog.pg_locks own ON own.virtualtransaction = k.virtualtransaction"
								   "    WHERE i.inhparent = 'outbox.event'::pg_catalog.regclass AND k.mode = 'RowExclusiveLock'"
								   "      AND k.pid IS NULL AND own.pid IS NULL AND own.transactionid = p.transaction)"
								   " ORDER BY 1", 0, NULL, NULL);

	for (uint64 i = 0; i < count; i++)
		appendStringInfo(out, "\n%s", get_string(i, 1));
	return (int) count;
}

/* The last id that was drawn, 0 for none. */
static int64
last_id_drawn(void)
{
	bool		isnull;

	(void) query_rows("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM outbox.event_id_seq",
					  0, NULL, NULL);
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static void
explain_missing(StringInfo out, int64 id)
{
	int64		last = last_id_drawn();
	ObxSegment *oldest = obx_segment_find_at(1, GetActiveSnapshot());
	StringInfoData writers;

	if (id < 1 || id > last)
	{
		appendStringInfo(out, "No event has had the id " INT64_FORMAT, id);
		if (last > 0)
			appendStringInfo(out, " yet: the last one drawn is " INT64_FORMAT, last);
		appendStringInfoChar(out, '.');
		return;
	}

	initStringInfo(&writers);
	if (append_writers(&writers) > 0)
		appendStringInfo(out, "Event " INT64_FORMAT " is not committed, or not any more in the log."
						 "  Transactions that are open and have emitted events:%s",
						 id, writers.data);
	else if (oldest != NULL && oldest->first_position > 1 && id < oldest->min_id)
		appendStringInfo(out, "Event " INT64_FORMAT " was dropped by retention, or its transaction was rolled back:"
						 " the log is kept from position " INT64_FORMAT " on.",
						 id, oldest->first_position);
	else
		appendStringInfo(out, "The transaction, or the savepoint, that emitted event " INT64_FORMAT
						 " was rolled back, or retention has dropped the event.", id);
}

/* ---- in the log, without a position ---- */

/* The transaction of an event without a position, 0 if there is no such event. */
static uint64
find_unpositioned(int64 id)
{
	ObxSegment *last = obx_segment_find_last(GetActiveSnapshot());
	Oid			types[] = {INT8OID, XID8OID};
	Datum		values[2];
	bool		isnull;

	values[0] = Int64GetDatum(id);
	values[1] = FullTransactionIdGetDatum(FullTransactionIdFromU64(last != NULL ?
																   last->snapshot->xmin : 0));
	if (query_rows("SELECT xid FROM outbox.event WHERE id OPERATOR(pg_catalog.=) $1"
				   " AND xid OPERATOR(pg_catalog.>=) $2", 2, types, values) == 0)
		return 0;
	return U64FromFullTransactionId(DatumGetFullTransactionId(SPI_getbinval(SPI_tuptable->vals[0],
																			SPI_tuptable->tupdesc,
																			1, &isnull)));
}

static void
explain_unpositioned(StringInfo out, int64 id, uint64 xid)
{
	if (xid == obx_generation_own_xid_if_any())
	{
		appendStringInfo(out, "Event " INT64_FORMAT " is of this transaction, which has not committed.",
						 id);
		return;
	}
	appendStringInfo(out, "Event " INT64_FORMAT " is committed and has no position yet: ", id);
	if (query_rows("SELECT pid, state, since FROM outbox.worker WHERE role = 'sequencer' AND pid IS NOT NULL",
				   0, NULL, NULL) > 0)
		appendStringInfo(out, "the sequencer, pid %s, is %s since %s.", get_string(0, 1),
						 get_string(0, 2), get_string(0, 3));
	else
		appendStringInfoString(out, "no sequencer serves this database.  CALL outbox.run() gives positions, too.");
}

/* ---- in a subscription ---- */

static void
append_error(StringInfo out, const ObxDelivery *delivery)
{
	if (delivery->error != NULL)
		appendStringInfo(out, ": %s", delivery->error);
}

typedef struct Blocking
{
	const ObxSubscription *subscription;
	const ObxDelivery *waiting; /* NULL: is not open itself */
	int64		position;		/* of what waits */
	int64		blocker;		/* position, 0 for none */
} Blocking;

/* ObxDeliveryVisitor */
static bool
is_no_blocker(ObxDelivery *delivery, void *arg)
{
	Blocking   *blocking = arg;
	const ObxDelivery *waiting = blocking->waiting;

	if (delivery->position >= blocking->position)
		return false;
	if (blocking->subscription->ordering != OBX_ORDERING_STRICT &&
		(waiting == NULL || !waiting->key.has || !delivery->key.has ||
		 delivery->key.hash != waiting->key.hash))
		return true;
	blocking->blocker = delivery->position;
	return false;
}

/* The first open event that the lane's event waits for; NULL if there is none. */
static const ObxDelivery *
find_blocker(const ObxSubscription *subscription, int lane, const ObxDelivery *waiting,
			 int64 position)
{
	Blocking	blocking = {
		.subscription = subscription,
		.waiting = waiting,
		.position = position
	};

	obx_delivery_visit_open(subscription->id, lane, is_no_blocker, &blocking);
	return blocking.blocker == 0 ? NULL : obx_delivery_find(subscription->id, blocking.blocker);
}

static void
append_blocker(StringInfo out, const ObxDelivery *blocker)
{
	appendStringInfo(out, "waits behind the event at position " INT64_FORMAT, blocker->position);
	switch (blocker->state)
	{
		case OBX_DELIVERY_RETRY:
			appendStringInfo(out, ", which is tried again at %s",
							 timestamptz_to_str(blocker->next_at));
			break;
		case OBX_DELIVERY_PARKED:
			appendStringInfoString(out, ", which waits itself");
			break;
		case OBX_DELIVERY_DEAD:
			appendStringInfoString(out, ", a dead letter that blocks");
			break;
	}
	if (blocker->error != NULL)
		appendStringInfo(out, " (%s)", blocker->error);
}

static void
explain_pending(StringInfo out, const ObxSubscription *subscription, ObxOutcomes *follower,
				const ObxOutcome *outcome, int64 position)
{
	const ObxDelivery *blocker = find_blocker(subscription, outcome->lane, NULL, position);
	int64		reached = obx_outcome_position(follower, outcome->lane);

	if (blocker != NULL)
		append_blocker(out, blocker);
	else
		appendStringInfo(out, "pending: it has come to position " INT64_FORMAT
						 ", the event is " INT64_FORMAT " further on",
						 reached, position - reached);
	if (blocker == NULL && subscription->kind == OBX_KIND_PULL)
		appendStringInfoString(out, "; it waits for a consumer to receive");
	else if (!subscription->paused && obx_slots != NULL)
	{
		appendStringInfoString(out, "; it ");
		obx_behind_explain_workers(out, subscription);
	}
}

static void
explain_earlier(StringInfo out, const ObxSubscription *subscription, int64 position)
{
	if (position < subscription->first_position)
		appendStringInfo(out, "never: the subscription begins at position " INT64_FORMAT,
						 subscription->first_position);
	else
		appendStringInfoString(out, "never: it was committed before the subscription began");
}

static void
explain_delivered(StringInfo out, const ObxOutcome *outcome)
{
	if (outcome->at == 0)
		appendStringInfoString(out, "delivered; when is not recorded any more");
	else
		appendStringInfo(out, "delivered at %s", timestamptz_to_str(outcome->at));
	if (outcome->attempts > 1)
		appendStringInfo(out, ", at attempt %d", outcome->attempts);
}

/* False: it does not ask for events of this type. */
static bool
explain_outcome(StringInfo out, const ObxSubscription *subscription, ObxOutcomes *follower,
				const ObxReadEvent *event)
{
	ObxOutcome	outcome;
	const ObxDelivery *blocker;

	obx_outcome_find(follower, event, &outcome);
	switch (outcome.state)
	{
		case OBX_OUTCOME_UNWANTED:
			return false;
		case OBX_OUTCOME_EARLIER:
			explain_earlier(out, subscription, event->position);
			break;
		case OBX_OUTCOME_PENDING:
			explain_pending(out, subscription, follower, &outcome, event->position);
			break;
		case OBX_OUTCOME_HANDED_OUT:
			appendStringInfo(out, "handed out to a consumer until %s",
							 timestamptz_to_str(outcome.until));
			break;
		case OBX_OUTCOME_RETRYING:
			appendStringInfo(out, "retrying: attempts so far: %d, the next one is due at %s",
							 outcome.attempts, timestamptz_to_str(outcome.delivery->next_at));
			append_error(out, outcome.delivery);
			break;
		case OBX_OUTCOME_PARKED:
			blocker = find_blocker(subscription, outcome.lane, outcome.delivery, event->position);
			appendStringInfoString(out, "parked: ");
			if (blocker != NULL)
				append_blocker(out, blocker);
			else
				appendStringInfoString(out, "its turn has come");
			break;
		case OBX_OUTCOME_DEAD:
			appendStringInfo(out, "dead since %s, attempts: %d",
							 timestamptz_to_str(outcome.at), outcome.attempts);
			append_error(out, outcome.delivery);
			break;
		case OBX_OUTCOME_DELIVERED:
			explain_delivered(out, &outcome);
			break;
		case OBX_OUTCOME_FILTERED:
			appendStringInfo(out, "never: the filter has left it out: %s", subscription->filter);
			break;
		case OBX_OUTCOME_DISCARDED:
			appendStringInfo(out, "never: as a dead letter it was discarded at %s",
							 timestamptz_to_str(outcome.at));
			break;
		case OBX_OUTCOME_PASSED:
			if (subscription->filter != NULL)
				appendStringInfo(out, "delivered, or left out by the filter: %s",
								 subscription->filter);
			else
				appendStringInfoString(out, "passed over, by a seek for instance");
			break;
	}
	return true;
}

/* A subscription that does not go on, and why. */
typedef struct Standstill
{
	char	   *name;
	char	   *state;
	char	   *error;
} Standstill;

typedef struct Standstills
{
	uint64		count;
	Standstill *list;			/* by name */
} Standstills;

/* All of them at once: the view looks at all subscriptions, whichever is asked for. */
static Standstills *
list_standstills(void)
{
	Standstills *standstills = palloc(sizeof(Standstills));

	standstills->count = query_rows("SELECT name, state, last_error FROM outbox.status"
									" WHERE state OPERATOR(pg_catalog.<>) ALL (ARRAY['active', 'paused', 'blocked'])"
									" ORDER BY name COLLATE \"C\"", 0, NULL, NULL);
	standstills->list = palloc(standstills->count * sizeof(Standstill) + 1);
	for (uint64 i = 0; i < standstills->count; i++)
	{
		standstills->list[i].name = get_string(i, 1);
		standstills->list[i].state = get_string(i, 2);
		standstills->list[i].error = get_string(i, 3);
	}
	return standstills;
}

/* bsearch comparator */
static int
compare_names(const void *key, const void *member)
{
	return strcmp(key, ((const Standstill *) member)->name);
}

/* What keeps a subscription from going on, if anything does. */
static void
append_state(StringInfo out, const ObxSubscription *subscription, const Standstills *standstills)
{
	const Standstill *found;

	if (subscription->paused)
	{
		appendStringInfoString(out, "; the subscription is ");
		obx_behind_explain_pause(out, subscription);
		return;
	}
	found = bsearch(subscription->name, standstills->list, standstills->count,
					sizeof(Standstill), compare_names);
	if (found == NULL)
		return;
	appendStringInfo(out, "; the subscription is %s", found->state);
	if (found->error != NULL && strcmp(found->state, "broken") == 0)
		appendStringInfo(out, ": %s", found->error);
}

static void
explain_positioned(StringInfo out, ObxReadEvent *event)
{
	bool		isnull;
	Datum		name = slot_getattr(event->slot, OBX_EVENT_TYPE + 1, &isnull);
	Datum		key = slot_getattr(event->slot, OBX_EVENT_KEY + 1, &isnull);
	List	   *subscriptions = obx_subscription_list();
	const Standstills *standstills = list_standstills();
	int			unwanted = 0;
	ListCell   *lc;

	appendStringInfo(out, "Event " INT64_FORMAT ", \"%s\"", event->id,
					 TextDatumGetCString(name));
	if (!isnull)
		appendStringInfo(out, " with the key \"%s\"", TextDatumGetCString(key));
	appendStringInfo(out, ", is at position " INT64_FORMAT ".", event->position);
	if (subscriptions == NIL)
		appendStringInfoString(out, "  There is no subscription.");

	foreach(lc, subscriptions)
	{
		const ObxSubscription *subscription = lfirst(lc);
		int			end = out->len;
		int			start = end + 1;

		appendStringInfo(out, "\n%s: ", subscription->name);
		if (!explain_outcome(out, subscription, obx_outcome_open(subscription), event))
		{
			out->data[out->len = end] = '\0';
			unwanted++;
			continue;
		}
		append_state(out, subscription, standstills);

		/* one line, whatever stands in errors and filters */
		for (int i = start; i < out->len; i++)
			if ((unsigned char) out->data[i] < ' ')
				out->data[i] = ' ';
	}
	if (unwanted > 0)
		appendStringInfo(out, "\nSubscriptions that do not ask for events of this type: %d.", unwanted);
}

/*
 * why_not_delivered(event_id)
 */
Datum
obx_sql_why_not_delivered(PG_FUNCTION_ARGS)
{
	ObxReadEvent event = {0};
	StringInfoData out;

	obx_argument_require(fcinfo, 0, "event_id");
	event.slot = obx_event_make_slot();
	event.id = PG_GETARG_INT64(0);
	initStringInfo(&out);

	SPI_connect();
	if (obx_event_find_by_id(GetActiveSnapshot(), event.id, event.slot))
	{
		event.xid = obx_event_xid(event.slot);
		event.position = obx_event_position(GetActiveSnapshot(), event.id);
		explain_positioned(&out, &event);
	}
	else
	{
		event.xid = find_unpositioned(event.id);
		if (event.xid != 0)
			explain_unpositioned(&out, event.id, event.xid);
		else
			explain_missing(&out, event.id);
	}
	SPI_finish();
	ExecDropSingleTupleTableSlot(event.slot);
	PG_RETURN_TEXT_P(cstring_to_text(out.data));
}
