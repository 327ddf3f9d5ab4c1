/*
 * Reading the log: outbox.read(), oldest(), head(), position_of().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/listener.h"
#include "dispatch/match.h"
#include "log/read.h"
#include "log/segment.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_read);
PG_FUNCTION_INFO_V1(obx_sql_oldest);
PG_FUNCTION_INFO_V1(obx_sql_head);
PG_FUNCTION_INFO_V1(obx_sql_position_of);

/* One row of read(): the position, then the event's columns. */
static void
put_event(ReturnSetInfo * result, const ObxReadEvent *event)
{
	Datum		values[OBX_EVENT_COLUMNS + 1];
	bool		nulls[OBX_EVENT_COLUMNS + 1];

	values[0] = Int64GetDatum(event->position);
	nulls[0] = false;
	slot_getallattrs(event->slot);
	memcpy(&values[1], event->slot->tts_values, OBX_EVENT_COLUMNS * sizeof(Datum));
	memcpy(&nulls[1], event->slot->tts_isnull, OBX_EVENT_COLUMNS * sizeof(bool));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static bool
type_matches(char **patterns, int npatterns, TupleTableSlot *slot)
{
	bool		isnull;
	text	   *type = DatumGetTextPP(slot_getattr(slot, OBX_EVENT_TYPE + 1, &isnull));

	return obx_patterns_match(patterns, npatterns, VARDATA_ANY(type),
							  VARSIZE_ANY_EXHDR(type));
}

/* For readers that must not miss anything. */
static void
require_kept(int64 after)
{
	int64		oldest = obx_segment_oldest(GetActiveSnapshot());
	int64		head = obx_segment_head(GetActiveSnapshot());

	if (after >= head || (oldest != 0 && oldest <= after + 1))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("events after position " INT64_FORMAT " are not kept any more", after),
			 oldest == 0 ? errdetail("The log was given positions up to " INT64_FORMAT ", and is empty.", head) :
			 errdetail("The oldest position kept is " INT64_FORMAT ".", oldest),
			 errhint("Read what they were about at its source, and go on from outbox.oldest(); a subscription keeps what it has not dealt with.")));
}

/*
 * read(after, max_events, types, strict)
 */
Datum
obx_sql_read(PG_FUNCTION_ARGS)
{
	int64		after = obx_argument_require_number(fcinfo, 0, "after", true, 0,
													PG_INT64_MAX - 1);
	int64		left = obx_argument_require_number(fcinfo, 1, "max_events", false, 0,
												   INT_MAX);
	int			npatterns;
	char	  **patterns = obx_argument_require_patterns(fcinfo, 2, "types", &npatterns);
	ObxReader  *reader;
	ObxReadEvent event;

	if (!PG_ARGISNULL(3) && PG_GETARG_BOOL(3))
		require_kept(after);
	InitMaterializedSRF(fcinfo, 0);
	reader = obx_reader_begin(GetActiveSnapshot(), after, 0, true);
	while (left > 0 && obx_reader_next(reader, &event))
	{
		CHECK_FOR_INTERRUPTS();
		if (!type_matches(patterns, npatterns, event.slot))
			continue;
		put_event((ReturnSetInfo *) fcinfo->resultinfo, &event);
		left--;
	}
	obx_reader_end(reader);
	if (left > 0)
		obx_listener_arm();
	return (Datum) 0;
}

Datum
obx_sql_oldest(PG_FUNCTION_ARGS)
{
	int64		oldest = obx_segment_oldest(GetActiveSnapshot());

	if (oldest == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(oldest);
}

Datum
obx_sql_head(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(obx_segment_head(GetActiveSnapshot()));
}

/*
 * position_of(event_id)
 */
Datum
obx_sql_position_of(PG_FUNCTION_ARGS)
{
	int64		position;

	obx_argument_require(fcinfo, 0, "event_id");
	position = obx_event_position(GetActiveSnapshot(), PG_GETARG_INT64(0));
	if (position == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(position);
}
