/*
 * outbox.cancel_scheduled().
 */
#include "postgres.h"

#include "base/compat.h"
#include "emit/scheduled.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_cancel_scheduled);

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
