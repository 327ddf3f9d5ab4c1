/*
 * Consuming by pull: outbox.receive(), ack() and nack().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "pull/handout.h"
#include "pull/receipt.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_receive);
PG_FUNCTION_INFO_V1(obx_sql_ack);
PG_FUNCTION_INFO_V1(obx_sql_nack);

/* The subscription named by the first argument, which must be for pulling. */
static ObxSubscription *
require_pull(FunctionCallInfo fcinfo, const char *function)
{
	ObxSubscription *subscription;

	obx_argument_require(fcinfo, 0, "subscription");
	subscription = obx_argument_require_subscription(fcinfo);
	if (subscription->kind != OBX_KIND_PULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("subscription \"%s\" is not for pulling", subscription->name),
				 errdetail("Its events are delivered to %s %s.",
						   subscription->kind == OBX_KIND_AGGREGATE ? "an" : "a",
						   obx_kind_name(subscription->kind)),
				 errhint("Subscribe with neither a handler nor a channel, or use outbox.read().")));
	PreventCommandIfReadOnly(function);
	return subscription;
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

/* One row of receive(): the position, the event's columns, the receipt. */
static void
put_event(ReturnSetInfo * result, TupleDesc tupdesc, const ObxTargetEvent *event, int64 receipt)
{
	Datum		values[OBX_EVENT_COLUMNS + 2];
	bool		nulls[OBX_EVENT_COLUMNS + 2];

	heap_deform_tuple(event->tuple, tupdesc, &values[1], &nulls[1]);
	values[0] = Int64GetDatum(event->position);
	nulls[0] = false;
	values[OBX_EVENT_COLUMNS + 1] = Int64GetDatum(receipt);
	nulls[OBX_EVENT_COLUMNS + 1] = false;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * receive(subscription, max_events, lease)
 */
Datum
obx_sql_receive(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.receive()");
	int			max_events = obx_argument_require_number(fcinfo, 1, "max_events", false, 1,
														 INT_MAX);
	int64		lease = get_lease(fcinfo, 2);
	ObxHandout	handout;
	Relation	table;

	InitMaterializedSRF(fcinfo, 0);
	if (!obx_handout_receive(subscription, max_events, lease, &handout))
		return (Datum) 0;

	table = table_open(obx_object_require(OBX_EVENT), AccessShareLock);
	for (int i = 0; i < handout.nevents; i++)
		put_event((ReturnSetInfo *) fcinfo->resultinfo, RelationGetDescr(table),
				  &handout.events[i], handout.receipt);
	/* consumers hold up no partition: what they have not acked is not dropped */
	table_close(table, AccessShareLock);
	return (Datum) 0;
}

/*
 * ack(subscription, receipt, up_to)
 */
Datum
obx_sql_ack(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.ack()");
	int64		up_to = 0;

	obx_argument_require(fcinfo, 1, "receipt");
	if (!PG_ARGISNULL(2))
		up_to = obx_argument_require_number(fcinfo, 2, "up_to", true, 1, PG_INT64_MAX);
	obx_receipt_ack(subscription, PG_GETARG_INT64(1), up_to);
	PG_RETURN_VOID();
}

/*
 * nack(subscription, receipt, at_position, error)
 */
Datum
obx_sql_nack(PG_FUNCTION_ARGS)
{
	ObxSubscription *subscription = require_pull(fcinfo, "outbox.nack()");

	obx_argument_require(fcinfo, 1, "receipt");
	obx_argument_require(fcinfo, 2, "at_position");
	obx_receipt_nack(subscription, PG_GETARG_INT64(1), PG_GETARG_INT64(2),
					 obx_argument_text(fcinfo, 3));
	PG_RETURN_VOID();
}
