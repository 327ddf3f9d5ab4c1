/*
 * An event as one JSON object, for handlers of (jsonb).
 *
 * Such a handler does not depend on the extension's types.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/json.h"
#include "delivery/event_json.h"

static void
push_column(ObxJsonState * state, Form_pg_attribute attribute, Datum value)
{
	char		time[MAXDATELEN + 1];

	switch (attribute->atttypid)
	{
		case INT8OID:
			obx_json_push_number(state, DatumGetInt64(value));
			break;
		case JSONBOID:
			obx_json_push_jsonb(state, DatumGetJsonbP(value));
			break;
		case TIMESTAMPTZOID:
			JsonEncodeDateTime(time, value, TIMESTAMPTZOID, NULL);
			/* the object is made later: it keeps the pointer */
			obx_json_push_string(state, pstrdup(time));
			break;
		case XID8OID:
			obx_json_push_string(state, psprintf(UINT64_FORMAT,
												 U64FromFullTransactionId(DatumGetFullTransactionId(value))));
			break;
		default:
			obx_json_push_string(state, TextDatumGetCString(value));
			break;
	}
}

Jsonb *
obx_event_json_make(TupleDesc tupdesc, HeapTuple tuple, int64 position)
{
	ObxJsonState state = {0};

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	obx_json_push_key(&state, "position");
	obx_json_push_number(&state, position);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		bool		isnull;
		Datum		value = heap_getattr(tuple, i + 1, tupdesc, &isnull);

		obx_json_push_key(&state, NameStr(attribute->attname));
		if (isnull)
			obx_json_push_null(&state);
		else
			push_column(&state, attribute, value);
	}
	return obx_json_finish(&state, WJB_END_OBJECT);
}
