/*
 * Rows of outbox.delivery and of outbox.failure.
 *
 * A process that changes the rows of a lane holds the lane's lock, so no two
 * sessions meet at one row.  Must not know when an event is retried.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "base/table.h"
#include "catalog/delivery.h"
#include "catalog/locks.h"
#include "catalog/names.h"

/* Columns of outbox.delivery. */
enum
{
	SUBSCRIPTION,
	LANE,
	POSITION,
	STATE,
	OPEN,
	KEY_HASH,
	XID,
	EVENT_ID,
	ATTEMPTS,
	NEXT_AT,
	SQLSTATE,
	ERROR_MESSAGE,
	ERROR_DETAIL,
	ERROR_CONTEXT,
	FAILED_AT,
	HISTORY,
	COLUMNS
};

static const char *const state_name[] = {
	[OBX_DELIVERY_RETRY] = "retry",
	[OBX_DELIVERY_PARKED] = "parked",
	[OBX_DELIVERY_DEAD] = "dead"
};

/* ---- rows ---- */

static ObxDelivery *
make_delivery(HeapTuple tuple, TupleDesc tupdesc)
{
	ObxDelivery *delivery = palloc0(sizeof(ObxDelivery));
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	char	   *state;

	heap_deform_tuple(tuple, tupdesc, values, nulls);
	delivery->subscription = DatumGetInt32(values[SUBSCRIPTION]);
	delivery->lane = DatumGetInt32(values[LANE]);
	delivery->position = DatumGetInt64(values[POSITION]);
	state = TextDatumGetCString(values[STATE]);
	for (int i = 0; i < lengthof(state_name); i++)
		if (strcmp(state_name[i], state) == 0)
			delivery->state = i;
	delivery->open = DatumGetBool(values[OPEN]);
	delivery->key.has = !nulls[KEY_HASH];
	delivery->key.hash = delivery->key.has ? DatumGetInt64(values[KEY_HASH]) : 0;
	delivery->xid = U64FromFullTransactionId(DatumGetFullTransactionId(values[XID]));
	delivery->event_id = DatumGetInt64(values[EVENT_ID]);
	delivery->attempts = DatumGetInt32(values[ATTEMPTS]);
	delivery->next_at = nulls[NEXT_AT] ? DT_NOEND : DatumGetTimestampTz(values[NEXT_AT]);
	delivery->sqlstate = obx_table_get_text(values, nulls, SQLSTATE);
	delivery->error = obx_table_get_text(values, nulls, ERROR_MESSAGE);
	delivery->error_detail = obx_table_get_text(values, nulls, ERROR_DETAIL);
	delivery->error_context = obx_table_get_text(values, nulls, ERROR_CONTEXT);
	delivery->failed_at = nulls[FAILED_AT] ? 0 : DatumGetTimestampTz(values[FAILED_AT]);
	/* not read before it is needed, even where it is stored elsewhere */
	if (!nulls[HISTORY])
		delivery->history = datumCopy(values[HISTORY], false, -1);
	return delivery;
}

static bool
is_dead(HeapTuple tuple, TupleDesc tupdesc)
{
	bool		isnull;
	const text *state = DatumGetTextPP(heap_getattr(tuple, STATE + 1, tupdesc, &isnull));
	const char *dead = state_name[OBX_DELIVERY_DEAD];

	return VARSIZE_ANY_EXHDR(state) == strlen(dead) &&
		memcmp(VARDATA_ANY(state), dead, strlen(dead)) == 0;
}

static void
fill_row(const ObxDelivery *delivery, Datum *values, bool *nulls)
{
	memset(nulls, 0, COLUMNS * sizeof(bool));
	values[SUBSCRIPTION] = Int32GetDatum(delivery->subscription);
	values[LANE] = Int32GetDatum(delivery->lane);
	values[POSITION] = Int64GetDatum(delivery->position);
	obx_table_set_text(values, nulls, STATE, state_name[delivery->state]);
	values[OPEN] = BoolGetDatum(delivery->open);
	values[KEY_HASH] = Int64GetDatum(delivery->key.hash);
	nulls[KEY_HASH] = !delivery->key.has;
	values[XID] = FullTransactionIdGetDatum(FullTransactionIdFromU64(delivery->xid));
	values[EVENT_ID] = Int64GetDatum(delivery->event_id);
	values[ATTEMPTS] = Int32GetDatum(delivery->attempts);
	values[NEXT_AT] = TimestampTzGetDatum(delivery->next_at);
	nulls[NEXT_AT] = delivery->next_at == DT_NOEND;
	obx_table_set_text(values, nulls, SQLSTATE, delivery->sqlstate);
	obx_table_set_text(values, nulls, ERROR_MESSAGE, delivery->error);
	obx_table_set_text(values, nulls, ERROR_DETAIL, delivery->error_detail);
	obx_table_set_text(values, nulls, ERROR_CONTEXT, delivery->error_context);
	values[FAILED_AT] = TimestampTzGetDatum(delivery->failed_at);
	nulls[FAILED_AT] = delivery->error == NULL;
	values[HISTORY] = delivery->history;
	nulls[HISTORY] = delivery->history == (Datum) 0;
}

/* ---- finding ---- */

static int
init_lane_keys(ScanKeyData *keys, int32 subscription, int32 lane)
{
	ScanKeyInit(&keys[0], SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	ScanKeyInit(&keys[1], LANE + 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(lane));
	ScanKeyInit(&keys[2], OPEN + 1, BTEqualStrategyNumber, F_BOOLEQ, BoolGetDatum(true));
	return 3;
}

static int
init_row_keys(ScanKeyData *keys, int32 subscription, int64 position)
{
	ScanKeyInit(&keys[0], SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	ScanKeyInit(&keys[1], POSITION + 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(position));
	return 2;
}

static void
begin_scan(ObxScan *scan, ObxObject index, ScanKey keys, int nkeys, LOCKMODE lockmode)
{
	obx_scan_begin(scan, obx_object_require(OBX_DELIVERY), lockmode,
				   obx_object_require(index), NULL, keys, nkeys, ForwardScanDirection);
}

/* Shows what a scan finds, and ends it; false if the visitor did. */
static bool
visit_rows(ObxScan *scan, ObxDeliveryVisitor visit, void *arg)
{
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox delivery",
												 ALLOCSET_DEFAULT_SIZES);
	HeapTuple	tuple;
	bool		goes_on = true;

	while (goes_on && (tuple = obx_scan_next(scan)) != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		CHECK_FOR_INTERRUPTS();
		goes_on = visit(make_delivery(tuple, RelationGetDescr(scan->table)), arg);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	obx_scan_end(scan);
	MemoryContextDelete(memory);
	return goes_on;
}

void
obx_delivery_visit_open(int32 subscription, int32 lane, ObxDeliveryVisitor visit, void *arg)
{
	ScanKeyData keys[3];
	ObxScan		scan;

	begin_scan(&scan, OBX_DELIVERY_OPEN_IDX, keys, init_lane_keys(keys, subscription, lane),
			   AccessShareLock);
	(void) visit_rows(&scan, visit, arg);
}

/* What is known while first ones are visited. */
typedef struct FirstOnes
{
	ObxDeliveryVisitor visit;
	void	   *arg;
	int			most;
	int			seen;			/* of the key: */
	bool		has_key;		/* false: none yet */
	int64		key_hash;
} FirstOnes;

/* ObxDeliveryVisitor: ends where the key has more than are asked for. */
static bool
visit_first(ObxDelivery *delivery, void *arg)
{
	FirstOnes  *first = arg;

	if (delivery->key.has)
	{
		if (!first->has_key || first->key_hash != delivery->key.hash)
			first->seen = 0;
		first->has_key = true;
		first->key_hash = delivery->key.hash;
		if (first->seen++ == first->most)
			return false;
	}
	return first->visit(delivery, first->arg);
}

/*
 * One scan visits key after key; where a key has more, another scan begins
 * behind it.  NULL is behind all keys in the index, but no comparison finds it.
 */
void
obx_delivery_visit_first(int32 subscription, int32 lane, int most, ObxDeliveryVisitor visit,
						 void *arg)
{
	FirstOnes	first = {.visit = visit,.arg = arg,.most = most};
	ScanKeyData keys[4];
	int			nkeys = init_lane_keys(keys, subscription, lane);
	ObxScan		scan;

	begin_scan(&scan, OBX_DELIVERY_KEY_IDX, keys, nkeys, AccessShareLock);
	if (visit_rows(&scan, visit_first, &first))
		return;
	do
	{
		/* a scan changes its keys */
		(void) init_lane_keys(keys, subscription, lane);
		ScanKeyInit(&keys[nkeys], KEY_HASH + 1, BTGreaterStrategyNumber, F_INT8GT,
					Int64GetDatum(first.key_hash));
		begin_scan(&scan, OBX_DELIVERY_KEY_IDX, keys, nkeys + 1, AccessShareLock);
	} while (!visit_rows(&scan, visit_first, &first));

	(void) init_lane_keys(keys, subscription, lane);
	ScanKeyEntryInitialize(&keys[nkeys], SK_ISNULL | SK_SEARCHNULL, KEY_HASH + 1, InvalidStrategy,
						   InvalidOid, InvalidOid, InvalidOid, (Datum) 0);
	begin_scan(&scan, OBX_DELIVERY_KEY_IDX, keys, nkeys + 1, AccessShareLock);
	(void) visit_rows(&scan, visit, arg);
}

void
obx_delivery_visit_behind(int32 subscription, int32 lane, const int64 *key_hash, int64 position,
						  ObxDeliveryVisitor visit, void *arg)
{
	ScanKeyData keys[5];
	int			nkeys = init_lane_keys(keys, subscription, lane);
	ObxScan		scan;

	if (key_hash != NULL)
		ScanKeyInit(&keys[nkeys++], KEY_HASH + 1, BTEqualStrategyNumber, F_INT8EQ,
					Int64GetDatum(*key_hash));
	ScanKeyInit(&keys[nkeys++], POSITION + 1, BTGreaterStrategyNumber, F_INT8GT,
				Int64GetDatum(position));
	begin_scan(&scan, key_hash != NULL ? OBX_DELIVERY_KEY_IDX : OBX_DELIVERY_OPEN_IDX, keys, nkeys,
			   AccessShareLock);
	(void) visit_rows(&scan, visit, arg);
}

bool
obx_delivery_is_waiting(int32 subscription, int32 lane, int64 position)
{
	ScanKeyData keys[3];
	ObxScan		scan;
	HeapTuple	tuple;
	bool		waiting = false;

	begin_scan(&scan, OBX_DELIVERY_OPEN_IDX, keys, init_lane_keys(keys, subscription, lane),
			   AccessShareLock);
	while (!waiting && (tuple = obx_scan_next(&scan)) != NULL)
	{
		bool		isnull;
		int64		at = DatumGetInt64(heap_getattr(tuple, POSITION + 1,
													RelationGetDescr(scan.table), &isnull));

		CHECK_FOR_INTERRUPTS();
		if (at > position)
			break;
		waiting = !is_dead(tuple, RelationGetDescr(scan.table));
	}
	obx_scan_end(&scan);
	return waiting;
}

ObxDelivery *
obx_delivery_find(int32 subscription, int64 position)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;
	ObxDelivery *delivery = NULL;

	begin_scan(&scan, OBX_DELIVERY_PKEY, keys, init_row_keys(keys, subscription, position),
			   AccessShareLock);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		delivery = make_delivery(tuple, RelationGetDescr(scan.table));
	obx_scan_end(&scan);
	return delivery;
}

static void
begin_subscription_scan(ObxScan *scan, ScanKey key, int32 subscription, LOCKMODE lockmode)
{
	ScanKeyInit(key, SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	begin_scan(scan, OBX_DELIVERY_PKEY, key, 1, lockmode);
}

void
obx_delivery_visit(int32 subscription, ObxDeliveryVisitor visit, void *arg)
{
	ScanKeyData key;
	ObxScan		scan;

	begin_subscription_scan(&scan, &key, subscription, AccessShareLock);
	(void) visit_rows(&scan, visit, arg);
}

int64
obx_delivery_oldest(int32 subscription)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	int64		position = 0;

	begin_subscription_scan(&scan, &key, subscription, AccessShareLock);
	tuple = obx_scan_next(&scan);
	if (tuple != NULL)
		position = make_delivery(tuple, RelationGetDescr(scan.table))->position;
	obx_scan_end(&scan);
	return position;
}

/* ---- changing ---- */

#ifdef USE_ASSERT_CHECKING
/* A dead letter is tried again, and does not wait behind its key. */
static bool
may_become(ObxDeliveryState from, ObxDeliveryState to)
{
	return from != OBX_DELIVERY_DEAD || to != OBX_DELIVERY_PARKED;
}
#endif

void
obx_delivery_insert(const ObxDelivery *delivery)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS];
	bool		replace[COLUMNS];

	fill_row(delivery, values, nulls);
	begin_scan(&scan, OBX_DELIVERY_PKEY,
			   keys, init_row_keys(keys, delivery->subscription, delivery->position),
			   RowExclusiveLock);
	tuple = obx_scan_next(&scan);
	memset(replace, true, sizeof(replace));
	Assert(tuple == NULL || is_dead(tuple, RelationGetDescr(scan.table)));
	if (tuple != NULL)
		obx_table_update(scan.table, tuple, values, nulls, replace);
	else
		heap_freetuple(obx_table_insert(scan.table, values, nulls));
	obx_scan_end(&scan);
}

/* Updates the row, or deletes it where there is no new one. */
static void
change_row(int32 subscription, int64 position, const ObxDelivery *delivery)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;

	begin_scan(&scan, OBX_DELIVERY_PKEY, keys, init_row_keys(keys, subscription, position),
			   RowExclusiveLock);
	tuple = obx_scan_next(&scan);
	if (tuple == NULL)
		elog(ERROR, "delivery of position " INT64_FORMAT " to subscription %d is gone",
			 position, subscription);
	if (delivery == NULL)
		obx_table_delete(scan.table, tuple);
	else
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];
		bool		replace[COLUMNS];

		Assert(may_become(make_delivery(tuple, RelationGetDescr(scan.table))->state,
						  delivery->state));
		memset(replace, true, sizeof(replace));
		fill_row(delivery, values, nulls);
		obx_table_update(scan.table, tuple, values, nulls, replace);
	}
	obx_scan_end(&scan);
}

void
obx_delivery_update(const ObxDelivery *delivery)
{
	change_row(delivery->subscription, delivery->position, delivery);
}

void
obx_delivery_delete(int32 subscription, int64 position)
{
	change_row(subscription, position, NULL);
}

int
obx_delivery_delete_some(int32 subscription, int64 *from, int limit)
{
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;
	int			deleted = 0;

	init_row_keys(keys, subscription, 0);
	ScanKeyInit(&keys[1], POSITION + 1, BTGreaterEqualStrategyNumber, F_INT8GE,
				Int64GetDatum(*from));
	begin_scan(&scan, OBX_DELIVERY_PKEY, keys, 2, RowExclusiveLock);
	while (deleted < limit && (tuple = obx_scan_next(&scan)) != NULL)
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		*from = DatumGetInt64(heap_getattr(tuple, POSITION + 1, RelationGetDescr(scan.table),
										   &isnull)) + 1;
		obx_table_delete(scan.table, tuple);
		deleted++;
	}
	obx_scan_end(&scan);
	return deleted;
}

/* ---- the last failure ---- */

/* Columns of outbox.failure. */
enum
{
	FAILURE_SUBSCRIPTION,
	FAILURE_VERSION,
	FAILURE_POSITION,
	FAILURE_ERROR,
	FAILURE_FAILED_AT,
	FAILURE_COLUMNS
};

/*
 * The row of a subscription, NULL for none.  Its successor is inserted with the
 * next version, and it is deleted: updating it would leave a chain of versions
 * that a held snapshot keeps, and each failure would walk along all of it.
 * This way the newest one is at the near end of the index.
 */
static HeapTuple
begin_failure_scan(ObxScan *scan, ScanKey key, int32 subscription)
{
	ScanKeyInit(key, FAILURE_SUBSCRIPTION + 1, BTEqualStrategyNumber, F_INT4EQ,
				Int32GetDatum(subscription));
	obx_scan_begin(scan, obx_object_require(OBX_FAILURE), RowExclusiveLock,
				   obx_object_require(OBX_FAILURE_PKEY), NULL, key, 1, BackwardScanDirection);
	return obx_scan_next(scan);
}

/* Until the transaction ends; false if someone else is recording a failure. */
static bool
lock_failure(int32 subscription)
{
	return obx_lock_acquire(obx_lock_failure(subscription), ExclusiveLock, false);
}

/* Does the row say that the subscription cannot run? */
static bool
is_of_subscription(HeapTuple tuple, TupleDesc tupdesc)
{
	return heap_attisnull(tuple, FAILURE_POSITION + 1, tupdesc);
}

/* Does it say so for this reason? */
static bool
is_noted(HeapTuple tuple, TupleDesc tupdesc, const char *error)
{
	bool		isnull;
	Datum		noted = heap_getattr(tuple, FAILURE_ERROR + 1, tupdesc, &isnull);

	return is_of_subscription(tuple, tupdesc) && strcmp(TextDatumGetCString(noted), error) == 0;
}

/*
 * The lanes of a subscription share the row.  One that finds another at it
 * leaves it alone: that one's failure is as good a last one, and it may take
 * until its transaction ends.
 */
bool
obx_failure_record(int32 subscription, int64 position, const char *error)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;
	Datum		values[FAILURE_COLUMNS];
	bool		nulls[FAILURE_COLUMNS] = {false};
	int64		version = 0;
	bool		isnull;
	bool		noted;

	if (!lock_failure(subscription))
		return false;
	error = obx_encoding_clean(error);
	tuple = begin_failure_scan(&scan, &key, subscription);
	noted = position == 0 && tuple != NULL &&
		is_noted(tuple, RelationGetDescr(scan.table), error);
	if (tuple != NULL && !noted)
	{
		version = DatumGetInt64(heap_getattr(tuple, FAILURE_VERSION + 1,
											 RelationGetDescr(scan.table), &isnull));
		obx_table_delete(scan.table, tuple);
	}
	values[FAILURE_SUBSCRIPTION] = Int32GetDatum(subscription);
	values[FAILURE_VERSION] = Int64GetDatum(version + 1);
	values[FAILURE_POSITION] = Int64GetDatum(position);
	nulls[FAILURE_POSITION] = position == 0;
	values[FAILURE_ERROR] = CStringGetTextDatum(error);
	values[FAILURE_FAILED_AT] = TimestampTzGetDatum(GetCurrentTimestamp());
	if (!noted)
		heap_freetuple(obx_table_insert(scan.table, values, nulls));
	obx_scan_end(&scan);
	return !noted;
}

char *
obx_failure_find(int32 subscription)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple = begin_failure_scan(&scan, &key, subscription);
	char	   *error = NULL;

	if (tuple != NULL && is_of_subscription(tuple, RelationGetDescr(scan.table)))
	{
		bool		isnull;

		error = TextDatumGetCString(heap_getattr(tuple, FAILURE_ERROR + 1,
												 RelationGetDescr(scan.table), &isnull));
	}
	obx_scan_end(&scan);
	return error;
}

/* Is it noted that the subscription cannot run?  If so, the note may go. */
static bool
find_broken(int32 subscription, bool delete)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple = begin_failure_scan(&scan, &key, subscription);
	bool		found;

	found = tuple != NULL && is_of_subscription(tuple, RelationGetDescr(scan.table));
	if (found && delete)
		obx_table_delete(scan.table, tuple);
	obx_scan_end(&scan);
	return found;
}

/* Mostly there is nothing to clear, and then nothing is locked. */
bool
obx_failure_clear(int32 subscription)
{
	return find_broken(subscription, false) && lock_failure(subscription) &&
		find_broken(subscription, true);
}

void
obx_failure_delete(int32 subscription)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple = begin_failure_scan(&scan, &key, subscription);

	if (tuple != NULL)
		obx_table_delete(scan.table, tuple);
	obx_scan_end(&scan);
}
