/*
 * outbox.publish() and outbox.publish_many().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/settings.h"
#include "log/append.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_publish);
PG_FUNCTION_INFO_V1(obx_sql_publish_many);

/* ---- one event ---- */

static text *
default_source(void)
{
	const char *source = application_name;

	if (source == NULL || source[0] == '\0')
		source = GetUserNameFromId(GetSessionUserId(), false);
	return cstring_to_text(source);
}

static void
check_headers(Jsonb *headers)
{
	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errhint("Pass something like {\"name\": \"value\"}.")));
}

/* Checks and appends; what is not given is NULL. */
static int64
publish_event(text *type, Datum data, text *key, text *source, Jsonb *headers)
{
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	obx_event_check_type(VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	values[OBX_EVENT_TYPE] = PointerGetDatum(type);
	nulls[OBX_EVENT_TYPE] = false;

	if (source == NULL)
		source = default_source();
	obx_event_check_source(VARDATA_ANY(source), VARSIZE_ANY_EXHDR(source));
	values[OBX_EVENT_SOURCE] = PointerGetDatum(source);
	nulls[OBX_EVENT_SOURCE] = false;

	if (key != NULL)
	{
		obx_event_check_key(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
		values[OBX_EVENT_KEY] = PointerGetDatum(key);
		nulls[OBX_EVENT_KEY] = false;
	}
	if (headers != NULL)
	{
		check_headers(headers);
		values[OBX_EVENT_HEADERS] = JsonbPGetDatum(headers);
		nulls[OBX_EVENT_HEADERS] = false;
	}
	values[OBX_EVENT_DATA] = data;
	nulls[OBX_EVENT_DATA] = false;
	return obx_event_append(values, nulls);
}

static void
refuse_argument(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("argument \"%s\" is not supported yet", name),
			 errhint("Leave it out.")));
}

/*
 * publish(type, data, key, source, headers, idempotency_key, deliver_at)
 */
Datum
obx_sql_publish(PG_FUNCTION_ARGS)
{
	int64		id;

	PreventCommandIfReadOnly("outbox.publish()");
	obx_argument_require(fcinfo, 0, "type");
	obx_argument_require(fcinfo, 1, "data");
	obx_argument_require(fcinfo, 4, "headers");
	if (!PG_ARGISNULL(5))
		refuse_argument("idempotency_key");
	if (!PG_ARGISNULL(6))
		refuse_argument("deliver_at");

	id = publish_event(PG_GETARG_TEXT_PP(0),
					   JsonbPGetDatum(PG_GETARG_JSONB_P(1)),
					   PG_ARGISNULL(2) ? NULL : PG_GETARG_TEXT_PP(2),
					   PG_ARGISNULL(3) ? NULL : PG_GETARG_TEXT_PP(3),
					   PG_GETARG_JSONB_P(4));
	obx_append_flush();
	PG_RETURN_INT64(id);
}

/* ---- many events ---- */

static void
report_element(int number, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("element %d of argument \"events\" %s", number, problem),
			 errhint("Each element is an object with the names of publish()'s arguments.")));
}

static text *
get_string(JsonbValue *value, int number, const char *name)
{
	if (value->type == jbvNull)
		return NULL;
	if (value->type != jbvString)
		report_element(number, psprintf("has a \"%s\" that is not a string", name));
	return cstring_to_text_with_len(value->val.string.val, value->val.string.len);
}

static bool
is_member(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

static void
publish_element(JsonbContainer * element, int number)
{
	JsonbIterator *iterator = JsonbIteratorInit(element);
	JsonbValue	key;
	JsonbValue	value;
	text	   *type = NULL;
	text	   *event_key = NULL;
	text	   *source = NULL;
	Jsonb	   *headers = NULL;
	Jsonb	   *data = NULL;

	JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		JsonbIteratorNext(&iterator, &value, true);
		if (is_member(&key, "type"))
			type = get_string(&value, number, "type");
		else if (is_member(&key, "data"))
			data = JsonbValueToJsonb(&value);
		else if (is_member(&key, "key"))
			event_key = get_string(&value, number, "key");
		else if (is_member(&key, "source"))
			source = get_string(&value, number, "source");
		else if (is_member(&key, "headers"))
			headers = value.type == jbvNull ? NULL : JsonbValueToJsonb(&value);
		else if (is_member(&key, "idempotency_key") || is_member(&key, "deliver_at"))
		{
			if (value.type != jbvNull)
				refuse_argument(pnstrdup(key.val.string.val, key.val.string.len));
		}
		else
			report_element(number, psprintf("has an unknown member \"%.*s\"",
											key.val.string.len, key.val.string.val));
	}

	if (type == NULL)
		report_element(number, "has no type");
	if (data == NULL)
		data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	publish_event(type, JsonbPGetDatum(data), event_key, source, headers);
}

typedef struct PublishMany
{
	Jsonb	   *events;
	int64		count;
} PublishMany;

static void
publish_elements(void *arg)
{
	PublishMany *many = arg;
	JsonbIterator *iterator = JsonbIteratorInit(&many->events->root);
	JsonbValue	value;
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox publish",
												 ALLOCSET_DEFAULT_SIZES);

	JsonbIteratorNext(&iterator, &value, true); /* the array's begin */
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		CHECK_FOR_INTERRUPTS();
		many->count++;
		if (value.type != jbvBinary ||
			!JsonContainerIsObject(value.val.binary.data))
			report_element((int) many->count, "is not an object");
		publish_element(value.val.binary.data, (int) many->count);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	MemoryContextDelete(memory);
}

/*
 * publish_many(events): they are written together.
 */
Datum
obx_sql_publish_many(PG_FUNCTION_ARGS)
{
	PublishMany many = {0};

	PreventCommandIfReadOnly("outbox.publish_many()");
	obx_argument_require(fcinfo, 0, "events");
	many.events = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(many.events) || JB_ROOT_IS_SCALAR(many.events))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"events\" must be a JSON array"),
				 errhint("Each element is an object with the names of publish()'s arguments.")));
	obx_append_together(publish_elements, &many);
	PG_RETURN_INT64(many.count);
}
