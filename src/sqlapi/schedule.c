/*
 * outbox.cancel_scheduled() and reschedule().
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "base/compat.h"
#include "emit/scheduled.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_cancel_scheduled);
PG_FUNCTION_INFO_V1(obx_sql_cancel_scheduled_key);
PG_FUNCTION_INFO_V1(obx_sql_reschedule);

/*
 * cancel_scheduled(id)
 */
Datum
obx_sql_cancel_scheduled(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("outbox.cancel_scheduled()");
	obx_argument_require(fcinfo, 0, "id");
	PG_RETURN_BOOL(obx_scheduled_cancel(PG_GETARG_INT64(0)));
}

/*
 * cancel_scheduled(idempotency_key)
 */
Datum
obx_sql_cancel_scheduled_key(PG_FUNCTION_ARGS)
{
	int64		id;

	PreventCommandIfReadOnly("outbox.cancel_scheduled()");
	obx_argument_require(fcinfo, 0, "idempotency_key");
	id = obx_scheduled_find(PG_GETARG_DATUM(0));
	PG_RETURN_BOOL(id != 0 && obx_scheduled_cancel(id));
}

/*
 * reschedule(idempotency_key, deliver_at)
 */
Datum
obx_sql_reschedule(PG_FUNCTION_ARGS)
{
	TimestampTz deliver_at;
	int64		id;

	PreventCommandIfReadOnly("outbox.reschedule()");
	obx_argument_require(fcinfo, 0, "idempotency_key");
	obx_argument_require(fcinfo, 1, "deliver_at");
	deliver_at = PG_GETARG_TIMESTAMPTZ(1);
	if (TIMESTAMP_NOT_FINITE(deliver_at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"%s\" must be finite", "deliver_at"),
				 errdetail("The event would never be due, or always have been."),
				 errhint("Give a time, or cancel the event with outbox.cancel_scheduled().")));
	id = obx_scheduled_find(PG_GETARG_DATUM(0));
	PG_RETURN_BOOL(id != 0 && obx_scheduled_postpone(id, deliver_at));
}
