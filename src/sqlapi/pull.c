/*
 * Consuming by pull: outbox.receive(), ack(), nack(), extend() and release().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/listener.h"
#include "base/table.h"
#include "catalog/names.h"
#include "pull/handout.h"
#include "pull/receipt.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_receive);
PG_FUNCTION_INFO_V1(obx_sql_ack);
PG_FUNCTION_INFO_V1(obx_sql_nack);
PG_FUNCTION_INFO_V1(obx_sql_extend);
PG_FUNCTION_INFO_V1(obx_sql_release);

/* The default of receive()'s max_events. */
#define OBX_RECEIVE_EVENTS 100

/* qsort comparator */
static int
compare_positions(const void *a, const void *b)
{
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	return one < other ? -1 : one > other ? 1 : 0;
}

static ObxSubscription *
require_pull(FunctionCallInfo fcinfo, const char *function)
{
	return obx_argument_require_pull(obx_argument_require_text(fcinfo, 0, "subscription"),
									 function);
}

/* NULL, or a length of time that is not 0. */
static int64
get_lease(FunctionCallInfo fcinfo, int number)
{
	int64		lease;

	if (PG_ARGISNULL(number))
		return OBX_HANDOUT_NO_LEASE;
	lease = obx_argument_require_interval(fcinfo, number, "lease");
	if (lease == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"lease\" must not be zero"),
				 errdetail("The events would be handed out again at once."),
				 errhint("Give an interval such as '30 seconds', or NULL to hold the events until the transaction ends.")));
	return lease;
}

/* Columns of receive()'s rows after the event's. */
enum
{
	RECEIPT = OBX_EVENT_COLUMNS + 1,
	ATTEMPT,
	IS_REPLAY,
	COLUMNS
};

/* One row of receive(): the position, the event's columns, what is said of the hand-out. */
static void
put_event(ReturnSetInfo * result, TupleDesc tupdesc, const ObxTargetEvent *event, int64 receipt)
{
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	heap_deform_tuple(event->tuple, tupdesc, &values[1], &nulls[1]);
	values[0] = Int64GetDatum(event->position);
	values[RECEIPT] = Int64GetDatum(receipt);
	values[ATTEMPT] = Int32GetDatum(event->attempt);
	values[IS_REPLAY] = BoolGetDatum(event->is_replay);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * receive(subscription, max_events, lease, receipt)
 */
Datum
obx_sql_receive(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.receive()");
	int			max_events = OBX_RECEIVE_EVENTS;
	int64		lease = get_lease(fcinfo, 2);
	ObxHandout	handout;
	Relation	table;
	bool		found;

	if (!PG_ARGISNULL(1))
		max_events = obx_argument_require_number(fcinfo, 1, "max_events", false, 1, INT_MAX);
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(3))
		found = obx_handout_receive(subscription, max_events, lease, &handout);
	else
		found = obx_handout_go_on(subscription, PG_GETARG_INT64(3), max_events, lease, &handout);
	if (!found)
	{
		obx_listener_arm();
		return (Datum) 0;
	}

	table = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	for (int i = 0; i < handout.nevents; i++)
		put_event((ReturnSetInfo *) fcinfo->resultinfo, RelationGetDescr(table),
				  &handout.events[i], handout.receipt);
	/* consumers hold up no partition: what they have not acked is not dropped */
	table_close(table, AccessShareLock);
	return (Datum) 0;
}

/* The positions that an argument lists, ascending, each once; NULL for NULL. */
static int64 *
get_positions(FunctionCallInfo fcinfo, int number, int *count)
{
	ArrayType  *array;
	int64	   *positions;
	int			different = 0;

	*count = 0;
	if (PG_ARGISNULL(number))
		return NULL;
	array = PG_GETARG_ARRAYTYPE_P(number);
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not contain nulls", "positions"),
				 errdetail("Each element is the position of an event."),
				 errhint("Give positions that outbox.receive() returned.")));
	positions = obx_int64_list(PG_GETARG_DATUM(number), count);
	if (*count == 0)
		return palloc(sizeof(int64));
	qsort(positions, *count, sizeof(int64), compare_positions);
	for (int i = 0; i < *count; i++)
		if (i == 0 || positions[i] != positions[i - 1])
			positions[different++] = positions[i];
	*count = different;
	return positions;
}

/*
 * ack(subscription, receipt, up_to, positions)
 */
Datum
obx_sql_ack(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.ack()");
	ObxAck		ack = {0};

	obx_argument_require(fcinfo, 1, "receipt");
	if (!PG_ARGISNULL(2))
		ack.up_to = obx_argument_require_number(fcinfo, 2, "up_to", true, 1, PG_INT64_MAX);
	ack.positions = get_positions(fcinfo, 3, &ack.npositions);
	if (ack.up_to != 0 && ack.positions != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"%s\" and \"%s\" exclude each other", "up_to", "positions"),
				 errdetail("Both say which events are acked."),
				 errhint("Give one of them, or neither to ack all that is left of the hand-out.")));
	obx_receipt_ack(subscription, PG_GETARG_INT64(1), &ack);
	PG_RETURN_VOID();
}

/* The position of its own argument, and those of the list. */
static int64 *
get_failed(FunctionCallInfo fcinfo, int *count)
{
	int64	   *listed = get_positions(fcinfo, 6, count);
	int64	   *all = palloc((*count + 1) * sizeof(int64));
	int			n = 0;

	if (listed == NULL)
		obx_argument_require(fcinfo, 2, "at_position");
	for (int i = 0; i < *count; i++)
		all[n++] = listed[i];
	if (!PG_ARGISNULL(2))
	{
		int64		at = PG_GETARG_INT64(2);
		bool		is_listed = false;

		for (int i = 0; i < *count; i++)
			is_listed |= listed[i] == at;
		if (!is_listed)
			all[n++] = at;
		qsort(all, n, sizeof(int64), compare_positions);
	}
	*count = n;
	return all;
}

/*
 * nack(subscription, receipt, at_position, error, delay, final, positions)
 */
Datum
obx_sql_nack(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.nack()");
	ObxNack		nack = {.delay = -1};

	obx_argument_require(fcinfo, 1, "receipt");
	nack.positions = get_failed(fcinfo, &nack.npositions);
	nack.error = obx_argument_text(fcinfo, 3);
	if (!PG_ARGISNULL(4))
		nack.delay = obx_argument_require_interval(fcinfo, 4, "delay");
	nack.final = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	if (nack.final && nack.delay >= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("arguments \"%s\" and \"%s\" exclude each other", "delay", "final"),
				 errdetail("A dead letter is not handed out again by itself."),
				 errhint("Leave one of them out.")));
	obx_receipt_nack(subscription, PG_GETARG_INT64(1), &nack);
	PG_RETURN_VOID();
}

/*
 * extend(subscription, receipt, lease)
 */
Datum
obx_sql_extend(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.extend()");

	obx_argument_require(fcinfo, 1, "receipt");
	obx_argument_require(fcinfo, 2, "lease");
	PG_RETURN_TIMESTAMPTZ(obx_receipt_extend(subscription, PG_GETARG_INT64(1),
											 get_lease(fcinfo, 2)));
}

/*
 * release(subscription, receipt)
 */
Datum
obx_sql_release(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.release()");

	obx_argument_require(fcinfo, 1, "receipt");
	obx_receipt_release(subscription, PG_GETARG_INT64(1));
	PG_RETURN_VOID();
}
