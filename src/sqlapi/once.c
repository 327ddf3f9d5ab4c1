/*
 * outbox.once(): the inbox of a consumer.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "base/compat.h"
#include "emit/once.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_once);

/* Bytes. */
#define CONSUMER_MAX_LENGTH 200

static void
check_consumer(text *consumer)
{
	int			length = VARSIZE_ANY_EXHDR(consumer);

	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"consumer\" must not be empty"),
				 errdetail("A consumer's name has 1 to %d bytes.", CONSUMER_MAX_LENGTH),
				 errhint("Name who must not do the same twice, such as mailer.")));
	if (length > CONSUMER_MAX_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("argument \"consumer\" is too long"),
				 errdetail("It has %d bytes, the limit is %d.", length, CONSUMER_MAX_LENGTH),
				 errhint("Give a shorter name.")));
}

/*
 * once(consumer, event_id)
 */
Datum
obx_sql_once(PG_FUNCTION_ARGS)
{
	ObxOnce		claim;
	text	   *consumer;
	int64		event_id;
	ObxOnceUse	former;

	PreventCommandIfReadOnly("outbox.once()");
	obx_argument_require(fcinfo, 0, "consumer");
	consumer = PG_GETARG_TEXT_PP(0);
	check_consumer(consumer);
	event_id = obx_argument_require_number(fcinfo, 1, "event_id", true, 1, PG_INT64_MAX);

	if (!obx_once_begin(&claim, PointerGetDatum(consumer),
						CStringGetTextDatum(psprintf(INT64_FORMAT, event_id)), &former))
		PG_RETURN_BOOL(false);
	obx_once_finish(&claim, event_id);
	PG_RETURN_BOOL(true);
}
