/*
 * outbox.publish() and outbox.publish_many().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "base/compat.h"
#include "base/encoding.h"
#include "base/settings.h"
#include "emit/append.h"
#include "emit/once.h"
#include "emit/scheduled.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_publish);
PG_FUNCTION_INFO_V1(obx_sql_publish_many);
PG_FUNCTION_INFO_V1(obx_sql_try_publish);
PG_FUNCTION_INFO_V1(obx_sql_try_publish_many);

/* The arguments; NULL for what is not given. */
typedef struct PublishArguments
{
	text	   *type;
	Jsonb	   *data;
	text	   *key;
	text	   *source;
	Jsonb	   *headers;
	text	   *idempotency_key;
	bool		is_scheduled;
	TimestampTz deliver_at;		/* if is_scheduled */
} PublishArguments;

typedef enum OutcomeKind
{
	EMITTED,
	SCHEDULED,
	DUPLICATE
} OutcomeKind;

/* To users. */
static const char *const outcome_name[] = {
	[EMITTED] = "emitted",
	[SCHEDULED] = "scheduled",
	[DUPLICATE] = "duplicate"
};

/* What became of one. */
typedef struct Outcome
{
	OutcomeKind kind;
	ObxOnceUse	event;			/* the new one, or the first one with its key */
} Outcome;

/* ---- one event ---- */

static text *
default_source(void)
{
	const char *source = application_name;

	if (source == NULL || source[0] == '\0')
		source = GetUserNameFromId(GetSessionUserId(), false);
	return cstring_to_text(obx_encoding_clean(source));
}

static void
check_headers(Jsonb *headers)
{
	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("headers must be a JSON object"),
				 errdetail("A header is a name with a value."),
				 errhint("Pass something like {\"name\": \"value\"}.")));
}

/* Fills and checks all columns of the event, except inherited ones. */
static void
fill_event(const PublishArguments *publication, Datum *values, bool *nulls)
{
	text	   *source = publication->source != NULL ? publication->source : default_source();

	memset(nulls, true, OBX_EVENT_COLUMNS * sizeof(bool));
	obx_event_check_type(VARDATA_ANY(publication->type), VARSIZE_ANY_EXHDR(publication->type));
	values[OBX_EVENT_TYPE] = PointerGetDatum(publication->type);
	nulls[OBX_EVENT_TYPE] = false;

	obx_event_check_source(VARDATA_ANY(source), VARSIZE_ANY_EXHDR(source));
	values[OBX_EVENT_SOURCE] = PointerGetDatum(source);
	nulls[OBX_EVENT_SOURCE] = false;

	if (publication->key != NULL)
	{
		obx_event_check_key(VARDATA_ANY(publication->key), VARSIZE_ANY_EXHDR(publication->key));
		values[OBX_EVENT_KEY] = PointerGetDatum(publication->key);
		nulls[OBX_EVENT_KEY] = false;
	}
	if (publication->headers != NULL)
	{
		check_headers(publication->headers);
		values[OBX_EVENT_HEADERS] = JsonbPGetDatum(publication->headers);
		nulls[OBX_EVENT_HEADERS] = false;
	}
	values[OBX_EVENT_DATA] = JsonbPGetDatum(publication->data);
	nulls[OBX_EVENT_DATA] = false;
}

static void
check_idempotency_key(text *key)
{
	int			length = VARSIZE_ANY_EXHDR(key);

	if (length == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("idempotency key must not be empty"),
				 errdetail("A key has 1 to %d bytes.", OBX_KEY_MAX_LENGTH),
				 errhint("Pass null for an event without an idempotency key.")));
	if (length > OBX_KEY_MAX_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("idempotency key is too long"),
				 errdetail("It has %d bytes, the limit is %d.", length, OBX_KEY_MAX_LENGTH),
				 errhint("Pass a hash of what is long, such as an MD5.")));
}

static void
check_time(TimestampTz deliver_at)
{
	if (deliver_at == DT_NOEND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("deliver_at must not be infinity"),
				 errdetail("The event would never enter the log."),
				 errhint("Pass a time, or null for an event that enters at once.")));
}

/* Emits or schedules. */
static void
emit_event(const PublishArguments *publication, Datum *values, bool *nulls, TimestampTz now,
		   Outcome *outcome)
{
	memset(&outcome->event, 0, sizeof(ObxOnceUse));
	if (!publication->is_scheduled || publication->deliver_at <= now)
	{
		outcome->kind = EMITTED;
		outcome->event.event_id = obx_event_append(values, nulls);
		return;
	}
	outcome->kind = SCHEDULED;
	outcome->event.scheduled_id =
		obx_scheduled_schedule(values, nulls, publication->deliver_at,
							   PointerGetDatum(publication->idempotency_key), now);
}

/* Checks and emits, unless the idempotency key has been used. */
static void
publish_event(const PublishArguments *publication, Outcome *outcome)
{
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
	ObxOnce		claim;

	fill_event(publication, values, nulls);
	if (publication->is_scheduled)
		check_time(publication->deliver_at);
	if (publication->idempotency_key == NULL)
	{
		emit_event(publication, values, nulls,
				   publication->is_scheduled ? GetCurrentTimestamp() : 0, outcome);
		return;
	}

	check_idempotency_key(publication->idempotency_key);
	if (!obx_once_begin(&claim, PointerGetDatum(cstring_to_text("")),
						PointerGetDatum(publication->idempotency_key), &outcome->event))
	{
		outcome->kind = DUPLICATE;
		return;
	}
	emit_event(publication, values, nulls, claim.time, outcome);
	if (outcome->event.event_id != 0)
		obx_once_finish(&claim, outcome->event.event_id);
	else
		obx_once_leave(&claim);
}

static text *
get_text(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : PG_GETARG_TEXT_PP(number);
}

/* Publishes what the arguments (type, data, key, source, headers, idempotency_key, deliver_at) say. */
static void
publish_arguments(FunctionCallInfo fcinfo, Outcome *outcome)
{
	PublishArguments publication;

	obx_argument_require(fcinfo, 0, "type");
	obx_argument_require(fcinfo, 1, "data");

	publication.type = get_text(fcinfo, 0);
	publication.data = PG_GETARG_JSONB_P(1);
	publication.key = get_text(fcinfo, 2);
	publication.source = get_text(fcinfo, 3);

	/*
	 * wrappers pass NULL with every event: the log's default is the
	 * argument's
	 */
	publication.headers = PG_ARGISNULL(4) ? NULL : PG_GETARG_JSONB_P(4);
	publication.idempotency_key = get_text(fcinfo, 5);
	publication.is_scheduled = !PG_ARGISNULL(6);
	if (publication.is_scheduled)
		publication.deliver_at = PG_GETARG_TIMESTAMPTZ(6);
	publish_event(&publication, outcome);
	obx_append_flush();
}

Datum
obx_sql_publish(PG_FUNCTION_ARGS)
{
	Outcome		outcome;

	PreventCommandIfReadOnly("outbox.publish()");
	publish_arguments(fcinfo, &outcome);
	if (outcome.event.event_id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(outcome.event.event_id);
}

/* Three columns: the outcome, the event's id, or else its id in outbox.scheduled. */
static void
fill_outcome(const Outcome *outcome, Datum *values, bool *nulls)
{
	values[0] = CStringGetTextDatum(outcome_name[outcome->kind]);
	nulls[0] = false;
	values[1] = Int64GetDatum(outcome->event.event_id);
	nulls[1] = outcome->event.event_id == 0;
	values[2] = Int64GetDatum(outcome->event.scheduled_id);
	nulls[2] = outcome->event.scheduled_id == 0;
}

/*
 * try_publish(the arguments of publish())
 */
Datum
obx_sql_try_publish(PG_FUNCTION_ARGS)
{
	Outcome		outcome;
	TupleDesc	tupdesc;
	Datum		values[3];
	bool		nulls[3];

	PreventCommandIfReadOnly("outbox.try_publish()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	publish_arguments(fcinfo, &outcome);
	fill_outcome(&outcome, values, nulls);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}

/* ---- many events ---- */

static void
report_element(int number, const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("element %d of argument \"events\" %s", number, problem),
			 errdetail("Its members are type, data, key, source, headers, idempotency_key and deliver_at."),
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

/* The members of an element. */
static void
read_element(JsonbContainer * element, int number, PublishArguments *publication)
{
	JsonbIterator *iterator = JsonbIteratorInit(element);
	JsonbValue	key;
	JsonbValue	value;

	memset(publication, 0, sizeof(PublishArguments));
	JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		JsonbIteratorNext(&iterator, &value, true);
		if (is_member(&key, "type"))
			publication->type = get_string(&value, number, "type");
		else if (is_member(&key, "data"))
			publication->data = JsonbValueToJsonb(&value);
		else if (is_member(&key, "key"))
			publication->key = get_string(&value, number, "key");
		else if (is_member(&key, "source"))
			publication->source = get_string(&value, number, "source");
		else if (is_member(&key, "headers"))
			publication->headers = JsonbValueToJsonb(&value);
		else if (is_member(&key, "idempotency_key"))
			publication->idempotency_key = get_string(&value, number, "idempotency_key");
		else if (is_member(&key, "deliver_at"))
		{
			text	   *time = get_string(&value, number, "deliver_at");

			publication->is_scheduled = time != NULL;
			if (time != NULL)
				publication->deliver_at =
					obx_argument_parse_time(text_to_cstring(time),
											psprintf("It is the \"deliver_at\" of element %d.", number),
											"Give a timestamp, such as 2026-12-24 18:00:00+01.");
		}
		else
			report_element(number, psprintf("has an unknown member \"%.*s\"",
											key.val.string.len, key.val.string.val));
	}

	if (publication->type == NULL)
		report_element(number, "has no type");
	if (publication->data == NULL)
		publication->data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
															   CStringGetDatum("{}")));
}

typedef struct PublishMany
{
	Jsonb	   *events;
	int64		published;
	ReturnSetInfo *result;		/* gets a row for each; NULL: they are counted */
} PublishMany;

/* The element's number, and its outcome. */
static void
put_outcome(const PublishMany *many, int number, const Outcome *outcome)
{
	Datum		values[4] = {Int32GetDatum(number)};
	bool		nulls[4] = {false};

	fill_outcome(outcome, &values[1], &nulls[1]);
	tuplestore_putvalues(many->result->setResult, many->result->setDesc, values, nulls);
}

static void
publish_elements(void *arg)
{
	PublishMany *many = arg;
	JsonbIterator *iterator = JsonbIteratorInit(&many->events->root);
	JsonbValue	value;
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox publish",
												 ALLOCSET_DEFAULT_SIZES);
	int			number = 0;

	JsonbIteratorNext(&iterator, &value, true); /* the array's begin */
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
	{
		MemoryContext old = MemoryContextSwitchTo(memory);

		PublishArguments publication;
		Outcome		outcome;

		CHECK_FOR_INTERRUPTS();
		number++;
		if (value.type != jbvBinary ||
			!JsonContainerIsObject(value.val.binary.data))
			report_element(number, "is not an object");
		read_element(value.val.binary.data, number, &publication);
		publish_event(&publication, &outcome);
		if (outcome.kind != DUPLICATE)
			many->published++;
		if (many->result != NULL)
			put_outcome(many, number, &outcome);
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
	}
	MemoryContextDelete(memory);
}

/* They are written together. */
static void
publish_array(FunctionCallInfo fcinfo, PublishMany *many)
{
	obx_argument_require(fcinfo, 0, "events");
	many->events = PG_GETARG_JSONB_P(0);
	if (!JB_ROOT_IS_ARRAY(many->events) || JB_ROOT_IS_SCALAR(many->events))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("argument \"events\" must be a JSON array"),
				 errdetail("It has an element for each event."),
				 errhint("Each element is an object with the names of publish()'s arguments.")));
	obx_append_together(publish_elements, many);
}

/*
 * publish_many(events)
 */
Datum
obx_sql_publish_many(PG_FUNCTION_ARGS)
{
	PublishMany many = {0};

	PreventCommandIfReadOnly("outbox.publish_many()");
	publish_array(fcinfo, &many);
	PG_RETURN_INT64(many.published);
}

/*
 * try_publish_many(events)
 */
Datum
obx_sql_try_publish_many(PG_FUNCTION_ARGS)
{
	PublishMany many = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	PreventCommandIfReadOnly("outbox.try_publish_many()");
	InitMaterializedSRF(fcinfo, 0);
	publish_array(fcinfo, &many);
	return (Datum) 0;
}
