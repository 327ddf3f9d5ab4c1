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
#include "utils/numeric.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "delivery/target.h"

static void
push_key(JsonbParseState **state, const char *name)
{
	JsonbValue	key;

	key.type = jbvString;
	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	pushJsonbValue(state, WJB_KEY, &key);
}

static void
push_string(JsonbParseState **state, char *string)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = string;
	value.val.string.len = strlen(string);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_number(JsonbParseState **state, int64 number)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_object(JsonbParseState **state, Datum datum)
{
	Jsonb	   *jsonb = DatumGetJsonbP(datum);
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(jsonb))
	{
		JsonbExtractScalar(&jsonb->root, &value);
		pushJsonbValue(state, WJB_VALUE, &value);
		return;
	}
	value.type = jbvBinary;
	value.val.binary.data = &jsonb->root;
	value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	pushJsonbValue(state, WJB_VALUE, &value);
}

static void
push_column(JsonbParseState **state, Form_pg_attribute attribute, Datum value)
{
	char		time[MAXDATELEN + 1];

	switch (attribute->atttypid)
	{
		case INT8OID:
			push_number(state, DatumGetInt64(value));
			break;
		case JSONBOID:
			push_object(state, value);
			break;
		case TIMESTAMPTZOID:
			JsonEncodeDateTime(time, value, TIMESTAMPTZOID, NULL);
			push_string(state, time);
			break;
		case XID8OID:
			push_string(state, psprintf(UINT64_FORMAT,
										U64FromFullTransactionId(DatumGetFullTransactionId(value))));
			break;
		default:
			push_string(state, TextDatumGetCString(value));
			break;
	}
}

Jsonb *
obx_event_to_jsonb(TupleDesc tupdesc, HeapTuple tuple, int64 position)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_key(&state, "position");
	push_number(&state, position);
	for (int i = 0; i < tupdesc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(tupdesc, i);
		bool		isnull;
		Datum		value = heap_getattr(tuple, i + 1, tupdesc, &isnull);

		push_key(&state, NameStr(attribute->attname));
		if (isnull)
		{
			JsonbValue	null = {.type = jbvNull};

			pushJsonbValue(&state, WJB_VALUE, &null);
		}
		else
			push_column(&state, attribute, value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
