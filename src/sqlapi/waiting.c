/*
 * For the view outbox.waiting: what a consumer has of a lane.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "catalog/delivery.h"
#include "catalog/progress.h"
#include "log/read.h"

PG_FUNCTION_INFO_V1(obx_sql_handed_out);

/* Positions farther apart are not read from one to the next. */
#define OBX_WAITING_GAP 1000

static void
put_position(ReturnSetInfo * result, int64 position, uint64 xid, int64 event_id)
{
	Datum		values[3] = {
		Int64GetDatum(position),
		FullTransactionIdGetDatum(FullTransactionIdFromU64(xid)),
		Int64GetDatum(event_id)
	};
	bool		nulls[3] = {false};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* From the log; what retention has dropped is left out. */
static void
put_owed(ReturnSetInfo * result, const int64 *positions, int count)
{
	ObxReader  *reader = NULL;
	ObxReadEvent event = {0};

	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (reader != NULL && positions[i] - event.position > OBX_WAITING_GAP)
		{
			obx_reader_end(reader);
			reader = NULL;
		}
		if (reader == NULL)
			reader = obx_reader_begin(GetActiveSnapshot(), positions[i] - 1, 0, false);
		while (event.position < positions[i] && obx_reader_next(reader, &event))
			;
		if (event.position == positions[i])
			put_position(result, positions[i], event.xid, event.id);
	}
	if (reader != NULL)
		obx_reader_end(reader);
}

/*
 * handed_out(subscription, lane)
 */
Datum
obx_sql_handed_out(PG_FUNCTION_ARGS)
{
	int32		subscription = PG_GETARG_INT32(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ObxProgress progress;

	InitMaterializedSRF(fcinfo, 0);
	if (!obx_progress_find(subscription, PG_GETARG_INT32(1), &progress) ||
		progress.receipt == 0 || !obx_progress_is_leased(&progress))
		return (Datum) 0;
	obx_progress_load(&progress);
	put_owed(result, progress.owed.list, progress.nhanded);
	for (int i = 0; i < progress.retries.count; i++)
	{
		ObxDelivery *delivery = obx_delivery_find(subscription, progress.retries.list[i]);

		if (delivery != NULL)
			put_position(result, delivery->position, delivery->xid, delivery->event_id);
	}
	return (Datum) 0;
}
