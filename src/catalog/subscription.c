/*
 * Rows of outbox.subscription: what was asked for.
 *
 * Must not know what a subscription does.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/table.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "catalog/owner.h"
#include "catalog/sequence.h"
#include "catalog/subscription.h"

/* Columns of outbox.subscription. */
enum
{
	ID,
	NAME,
	OWNER,
	KIND,
	TYPES,
	HANDLER_SCHEMA,
	HANDLER_NAME,
	HANDLER_ARGUMENT,
	CHANNEL,
	FILTER,
	ORDERING,
	CONCURRENCY,
	BATCH_SIZE,
	MAX_ATTEMPTS,
	BACKOFF,
	MAX_BACKOFF,
	TIMEOUT,
	ON_EXHAUSTED,
	PAYLOAD,
	SEARCH_PATH,
	PAUSED,
	START_SNAPSHOT,
	FIRST_POSITION,
	HISTORY,
	CREATED_AT,
	EMIT_TYPE,
	MAX_EVENTS,
	QUIET,
	PERIOD,
	UNTIL,
	PAUSED_BY,
	PAUSED_AT,
	SEEKS,
	DELIVERED_AT_SEEK,
	COLUMNS
};

static const char *const kind_name[] = {
	[OBX_KIND_FUNCTION] = "function",
	[OBX_KIND_CHANNEL] = "channel",
	[OBX_KIND_PULL] = "pull",
	[OBX_KIND_AGGREGATE] = "aggregate"
};

static const char *const ordering_name[] = {
	[OBX_ORDERING_KEY] = "key",
	[OBX_ORDERING_STRICT] = "strict",
	[OBX_ORDERING_NONE] = "none"
};

static const char *const argument_name[] = {
	[OBX_ARGUMENT_NONE] = "",
	[OBX_ARGUMENT_EVENT] = "event",
	[OBX_ARGUMENT_EVENT_ARRAY] = "event[]",
	[OBX_ARGUMENT_JSONB] = "jsonb",
	[OBX_ARGUMENT_REDUCER] = "jsonb, event"
};

const char *
obx_kind_name(ObxKind kind)
{
	return kind_name[kind];
}

const char *
obx_subscription_ordering(ObxOrdering ordering)
{
	return ordering_name[ordering];
}

const char *
obx_subscription_argument(ObxArgument argument)
{
	return argument_name[argument];
}

static int
find_name(const char *const *names, int count, Datum datum)
{
	char	   *name = TextDatumGetCString(datum);

	for (int i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("unexpected value \"%s\" in outbox.subscription", name)));
	return 0;					/* keep the compiler quiet */
}

/* ---- rows ---- */

/* Microseconds; a month counts as 30 days. */
static int64
read_interval(const Datum *values, int column)
{
	Interval   *interval = DatumGetIntervalP(values[column]);

	return ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY +
		interval->time;
}

static Datum
form_interval(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

static ObxSubscription *
make_subscription(HeapTuple tuple, TupleDesc tupdesc)
{
	ObxSubscription *subscription = palloc0(sizeof(ObxSubscription));
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	Datum	   *types;

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	subscription->id = DatumGetInt32(values[ID]);
	subscription->name = obx_table_get_text(values, nulls, NAME);
	subscription->owner = DatumGetObjectId(values[OWNER]);
	subscription->kind = find_name(kind_name, lengthof(kind_name), values[KIND]);
	deconstruct_array(DatumGetArrayTypeP(values[TYPES]), TEXTOID, -1, false, TYPALIGN_INT,
					  &types, NULL, &subscription->ntypes);
	subscription->types = palloc(subscription->ntypes * sizeof(char *));
	for (int i = 0; i < subscription->ntypes; i++)
		subscription->types[i] = TextDatumGetCString(types[i]);
	subscription->handler_schema = obx_table_get_text(values, nulls, HANDLER_SCHEMA);
	subscription->handler_name = obx_table_get_text(values, nulls, HANDLER_NAME);
	if (!nulls[HANDLER_ARGUMENT])
		subscription->handler_argument = find_name(argument_name, lengthof(argument_name),
												   values[HANDLER_ARGUMENT]);
	subscription->channel = obx_table_get_text(values, nulls, CHANNEL);
	subscription->filter = obx_table_get_text(values, nulls, FILTER);
	subscription->ordering = find_name(ordering_name, lengthof(ordering_name),
									   values[ORDERING]);
	subscription->concurrency = DatumGetInt32(values[CONCURRENCY]);
	subscription->batch_size = DatumGetInt32(values[BATCH_SIZE]);
	subscription->max_attempts = DatumGetInt32(values[MAX_ATTEMPTS]);
	subscription->backoff = read_interval(values, BACKOFF);
	subscription->max_backoff = read_interval(values, MAX_BACKOFF);
	subscription->timeout = read_interval(values, TIMEOUT);
	subscription->block_on_exhausted =
		strcmp(TextDatumGetCString(values[ON_EXHAUSTED]), "block") == 0;
	subscription->payload_event = strcmp(TextDatumGetCString(values[PAYLOAD]), "event") == 0;
	subscription->search_path = obx_table_get_text(values, nulls, SEARCH_PATH);
	subscription->paused = DatumGetBool(values[PAUSED]);
	if (!nulls[START_SNAPSHOT])
		subscription->start_snapshot = datumCopy(values[START_SNAPSHOT], false, -1);
	subscription->first_position = DatumGetInt64(values[FIRST_POSITION]);
	if (!nulls[HISTORY])
		subscription->history = obx_int64_list(values[HISTORY], &subscription->nhistory);
	subscription->created_at = DatumGetTimestampTz(values[CREATED_AT]);
	subscription->emit_type = obx_table_get_text(values, nulls, EMIT_TYPE);
	subscription->max_events = nulls[MAX_EVENTS] ? 0 : DatumGetInt64(values[MAX_EVENTS]);
	subscription->quiet = nulls[QUIET] ? 0 : read_interval(values, QUIET);
	subscription->period = nulls[PERIOD] ? 0 : read_interval(values, PERIOD);
	subscription->until = obx_table_get_text(values, nulls, UNTIL);
	subscription->paused_by = obx_table_get_text(values, nulls, PAUSED_BY);
	subscription->paused_at = nulls[PAUSED_AT] ? 0 : DatumGetTimestampTz(values[PAUSED_AT]);
	subscription->seeks = DatumGetInt32(values[SEEKS]);
	subscription->delivered_at_seek = DatumGetInt64(values[DELIVERED_AT_SEEK]);
	return subscription;
}

static void
fill_row(const ObxSubscription *subscription, Datum *values, bool *nulls)
{
	Datum	   *types = palloc(subscription->ntypes * sizeof(Datum));

	memset(nulls, 0, COLUMNS * sizeof(bool));
	for (int i = 0; i < subscription->ntypes; i++)
		types[i] = CStringGetTextDatum(subscription->types[i]);

	values[ID] = Int32GetDatum(subscription->id);
	obx_table_set_text(values, nulls, NAME, subscription->name);
	values[OWNER] = ObjectIdGetDatum(subscription->owner);
	obx_table_set_text(values, nulls, KIND, kind_name[subscription->kind]);
	values[TYPES] = PointerGetDatum(construct_array(types, subscription->ntypes, TEXTOID,
													-1, false, TYPALIGN_INT));
	obx_table_set_text(values, nulls, HANDLER_SCHEMA, subscription->handler_schema);
	obx_table_set_text(values, nulls, HANDLER_NAME, subscription->handler_name);
	obx_table_set_text(values, nulls, HANDLER_ARGUMENT,
					   subscription->handler_argument == OBX_ARGUMENT_NONE ? NULL :
					   argument_name[subscription->handler_argument]);
	obx_table_set_text(values, nulls, CHANNEL, subscription->channel);
	obx_table_set_text(values, nulls, FILTER, subscription->filter);
	obx_table_set_text(values, nulls, ORDERING, ordering_name[subscription->ordering]);
	values[CONCURRENCY] = Int32GetDatum(subscription->concurrency);
	values[BATCH_SIZE] = Int32GetDatum(subscription->batch_size);
	values[MAX_ATTEMPTS] = Int32GetDatum(subscription->max_attempts);
	values[BACKOFF] = form_interval(subscription->backoff);
	values[MAX_BACKOFF] = form_interval(subscription->max_backoff);
	values[TIMEOUT] = form_interval(subscription->timeout);
	obx_table_set_text(values, nulls, ON_EXHAUSTED,
					   subscription->block_on_exhausted ? "block" : "dead_letter");
	obx_table_set_text(values, nulls, PAYLOAD, subscription->payload_event ? "event" : "reference");
	obx_table_set_text(values, nulls, SEARCH_PATH, subscription->search_path);
	values[PAUSED] = BoolGetDatum(subscription->paused);
	values[START_SNAPSHOT] = subscription->start_snapshot;
	nulls[START_SNAPSHOT] = (subscription->start_snapshot == (Datum) 0);
	values[FIRST_POSITION] = Int64GetDatum(subscription->first_position);
	nulls[HISTORY] = (subscription->nhistory == 0);
	values[HISTORY] = subscription->nhistory == 0 ? (Datum) 0 :
		obx_int64_array(subscription->history, subscription->nhistory);
	values[CREATED_AT] = TimestampTzGetDatum(subscription->created_at);
	obx_table_set_text(values, nulls, EMIT_TYPE, subscription->emit_type);
	values[MAX_EVENTS] = Int64GetDatum(subscription->max_events);
	nulls[MAX_EVENTS] = (subscription->max_events == 0);
	values[QUIET] = form_interval(subscription->quiet);
	nulls[QUIET] = (subscription->quiet == 0);
	values[PERIOD] = form_interval(subscription->period);
	nulls[PERIOD] = (subscription->period == 0);
	obx_table_set_text(values, nulls, UNTIL, subscription->until);
	obx_table_set_text(values, nulls, PAUSED_BY, subscription->paused_by);
	values[PAUSED_AT] = TimestampTzGetDatum(subscription->paused_at);
	nulls[PAUSED_AT] = (subscription->paused_at == 0);
	values[SEEKS] = Int32GetDatum(subscription->seeks);
	values[DELIVERED_AT_SEEK] = Int64GetDatum(subscription->delivered_at_seek);
}

void
obx_subscription_set_paused(ObxSubscription *subscription, bool paused, const char *by)
{
	subscription->paused = paused;
	subscription->paused_by = paused && by != NULL ? pstrdup(by) : NULL;
	subscription->paused_at = paused ? GetCurrentTimestamp() : 0;
}

/* ---- finding ---- */

static void
begin_scan(ObxScan *scan, ObxObject index, ScanKey keys, int nkeys, LOCKMODE lockmode,
		   ScanDirection direction)
{
	obx_scan_begin(scan, obx_object_require(OBX_SUBSCRIPTION), lockmode,
				   obx_object_require(index), NULL, keys, nkeys, direction);
}

static ObxSubscription *
find_by_key(ObxObject index, ScanKey key)
{
	ObxScan		scan;
	HeapTuple	tuple;
	ObxSubscription *subscription = NULL;

	begin_scan(&scan, index, key, 1, AccessShareLock, ForwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		subscription = make_subscription(tuple, RelationGetDescr(scan.table));
	obx_scan_end(&scan);
	return subscription;
}

static void
init_id_key(ScanKey key, int32 id)
{
	ScanKeyInit(key, ID + 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
}

ObxSubscription *
obx_subscription_find(int32 id)
{
	ScanKeyData key;

	init_id_key(&key, id);
	return find_by_key(OBX_SUBSCRIPTION_PKEY, &key);
}

ObxSubscription *
obx_subscription_find_by_name(const char *name)
{
	ScanKeyData key;

	ScanKeyInit(&key, NAME + 1, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(name));
	return find_by_key(OBX_SUBSCRIPTION_NAME_KEY, &key);
}

ObxSubscription *
obx_subscription_require(const char *name)
{
	ObxSubscription *subscription = obx_subscription_find_by_name(name);

	if (subscription == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("subscription \"%s\" does not exist", name),
				 errdetail("No subscription of this database has that name."),
				 errhint("The view outbox.status lists the subscriptions.")));
	return subscription;
}

bool
obx_subscription_is_deleted_here(int32 id)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	bool		deleted = false;

	init_id_key(&key, id);
	obx_scan_begin(&scan, obx_object_require(OBX_SUBSCRIPTION), AccessShareLock,
				   obx_object_require(OBX_SUBSCRIPTION_PKEY), SnapshotAny, &key, 1,
				   ForwardScanDirection);
	while (!deleted && (tuple = obx_scan_next(&scan)) != NULL)
	{
		TransactionId xmax = HeapTupleHeaderGetUpdateXid(tuple->t_data);

		deleted = TransactionIdIsNormal(xmax) && TransactionIdIsCurrentTransactionId(xmax);
	}
	obx_scan_end(&scan);
	return deleted;
}

List *
obx_subscription_list(void)
{
	ObxScan		scan;
	HeapTuple	tuple;
	List	   *list = NIL;

	begin_scan(&scan, OBX_SUBSCRIPTION_PKEY, NULL, 0, AccessShareLock, ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
		list = lappend(list, make_subscription(tuple, RelationGetDescr(scan.table)));
	obx_scan_end(&scan);
	return list;
}

/* ---- changing ---- */

/* One above all that are in use, should the sequence have been set back. */
static int32
draw_id(void)
{
	Oid			sequence = obx_object_require(OBX_SUBSCRIPTION_ID_SEQ);
	int32		id = (int32) nextval_internal(sequence, false);
	ObxScan		scan;
	HeapTuple	tuple;
	bool		isnull;
	int32		highest = 0;

	begin_scan(&scan, OBX_SUBSCRIPTION_PKEY, NULL, 0, AccessShareLock, BackwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		highest = DatumGetInt32(heap_getattr(tuple, ID + 1, RelationGetDescr(scan.table),
											 &isnull));
	obx_scan_end(&scan);
	if (id > highest)
		return id;
	obx_sequence_raise(OBX_SUBSCRIPTION_ID_SEQ, highest);
	return (int32) nextval_internal(sequence, false);
}

int32
obx_subscription_insert(ObxSubscription *subscription)
{
	Relation	table = table_open(obx_object_require(OBX_SUBSCRIPTION), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];

	subscription->id = draw_id();
	fill_row(subscription, values, nulls);
	obx_table_insert(table, values, nulls);
	table_close(table, NoLock);
	obx_owner_put(OBX_OWNED_SUBSCRIPTION, subscription->name, subscription->owner);
	return subscription->id;
}

/* Calls function on the row, which must be there. */
static void
change_row(int32 id, const ObxSubscription *subscription)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;

	init_id_key(&key, id);
	begin_scan(&scan, OBX_SUBSCRIPTION_PKEY, &key, 1, RowExclusiveLock, ForwardScanDirection);
	tuple = obx_scan_next(&scan);
	if (tuple == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("subscription %d does not exist any more", id),
				 errdetail("It was removed meanwhile."),
				 errhint("The view outbox.status lists the subscriptions.")));
	if (subscription == NULL)
		obx_table_delete(scan.table, tuple);
	else
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];
		bool		replace[COLUMNS];

		memset(replace, true, sizeof(replace));
		fill_row(subscription, values, nulls);
		obx_table_update(scan.table, tuple, values, nulls, replace);
	}
	obx_scan_end(&scan);
}

void
obx_subscription_update(const ObxSubscription *subscription)
{
	change_row(subscription->id, subscription);
	obx_owner_put(OBX_OWNED_SUBSCRIPTION, subscription->name, subscription->owner);
}

void
obx_subscription_delete(const ObxSubscription *subscription)
{
	change_row(subscription->id, NULL);
	obx_owner_drop(OBX_OWNED_SUBSCRIPTION, subscription->name);
}

/* ---- owners ---- */

/*
 * The row as it is now, and the owner as it is now.  A command that gives a
 * subscription to another role holds the lock until all sessions have been
 * told: before that, their caches may still have the former owner.
 */
bool
obx_subscription_follow_owner(int32 id, bool wait)
{
	ObxSubscription *subscription;
	Oid			owner;

	if (!obx_lock_acquire(obx_lock_subscription(id), ExclusiveLock, wait))
		return false;
	AcceptInvalidationMessages();
	subscription = obx_subscription_find(id);
	if (subscription == NULL)
		return false;
	owner = obx_owner_find(OBX_OWNED_SUBSCRIPTION, subscription->name);
	if (!OidIsValid(owner) || owner == subscription->owner)
		return false;

	/* the former one's search_path is the former one's to fill */
	subscription->owner = owner;
	subscription->search_path = obx_identity_role_path(owner);
	obx_subscription_update(subscription);
	return true;
}

bool
obx_subscription_follow_owners(bool wait)
{
	bool		changed = false;
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
	{
		const ObxSubscription *subscription = lfirst(lc);
		Oid			owner = obx_owner_find(OBX_OWNED_SUBSCRIPTION, subscription->name);

		if (OidIsValid(owner) && owner != subscription->owner &&
			obx_subscription_follow_owner(subscription->id, wait))
			changed = true;
	}
	return changed;
}

bool
obx_subscription_follow_drop(const char *type)
{
	ListCell   *lc;

	foreach(lc, obx_subscription_list())
		if (obx_owner_is(type, OBX_OWNED_SUBSCRIPTION, ((ObxSubscription *) lfirst(lc))->name))
	{
		obx_subscription_delete(lfirst(lc));
		return true;
	}
	return false;
}
