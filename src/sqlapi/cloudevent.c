/*
 * outbox.to_cloudevent(): an event in the JSON format of CloudEvents 1.0.
 *
 * Attributes of CloudEvents cannot be empty, nor hold control characters and
 * the code points that Unicode says are no characters: what is empty is left
 * out, and what cannot stand there is percent-encoded.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "base/json.h"
#include "emit/context.h"
#include "log/generation.h"
#include "log/read.h"
#include "sqlapi/argument.h"
#include "sqlapi/uri.h"

PG_FUNCTION_INFO_V1(obx_sql_to_cloudevent);
PG_FUNCTION_INFO_V1(obx_sql_positioned_to_cloudevent);

/* What is kept from call to call; see make_lookup(). */
typedef struct Lookup
{
	LocalTransactionId transaction; /* in which it was made */
	ObxGenerations *generations;
	ObxPlace	place;
} Lookup;

/* ---- strings ---- */

static bool
is_character(pg_wchar c)
{
	if (c < 0x20 || (c >= 0x7F && c < 0xA0))
		return false;
	return (c < 0xFDD0 || c > 0xFDEF) && (c & 0xFFFE) != 0xFFFE;
}

/*
 * What CloudEvents allows in a string.  The text is in UTF-8, but in a database
 * without an encoding it may be any bytes.
 */
static char *
clean_utf8(const char *text)
{
	StringInfoData out;
	int			length;

	initStringInfo(&out);
	for (const char *c = text; *c != '\0'; c += length)
	{
		bool		is_legal;

		length = pg_utf_mblen((const unsigned char *) c);
		is_legal = strnlen(c, length) == length &&
			pg_utf8_islegal((const unsigned char *) c, length);
		if (!is_legal)
			length = 1;
		if (is_legal && is_character(utf8_to_unicode((const unsigned char *) c)))
			appendBinaryStringInfo(&out, c, length);
		else
			for (int i = 0; i < length; i++)
				obx_uri_append_escaped(&out, c[i]);
	}
	return out.data;
}

/* In UTF-8; the bytes as they are, where the database does not say what they are. */
static char *
to_utf8(char *text)
{
	return GetDatabaseEncoding() == PG_SQL_ASCII ? text :
				pg_server_to_any(text, strlen(text), PG_UTF8);
}

static char *
clean_string(char *text)
{
	char	   *utf8 = to_utf8(text);
	char	   *clean = clean_utf8(utf8);

	return pg_any_to_server(clean, strlen(clean), PG_UTF8);
}

/* ---- attributes ---- */

static void
push_attribute(ObxJsonState * state, const char *name, const char *value)
{
	obx_json_push_key(state, name);
	obx_json_push_string(state, value);
}

/* Leaves out what there is not, and what is empty. */
static void
push_optional(ObxJsonState * state, const char *name, char *value)
{
	if (value != NULL && value[0] != '\0')
		push_attribute(state, name, clean_string(value));
}

static char *
make_id(const Lookup *lookup, int64 id)
{
	return psprintf("%d-" INT64_FORMAT, obx_generation_of_id(lookup->generations, id), id);
}

/* RFC 3339 has neither infinity nor years of other than four digits. */
static void
push_time(ObxJsonState * state, TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;
	const int	utc = 0;
	char		buffer[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(time) || timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0 ||
		tm.tm_year < 0 || tm.tm_year > 9999)
		return;
	JsonEncodeDateTime(buffer, TimestampTzGetDatum(time), TIMESTAMPTZOID, &utc);
	/* the object is made later: it keeps the pointer */
	push_attribute(state, "time", pstrdup(buffer));
}

/* As long as the largest number, so that order is that of strings. */
static void
push_sequence(ObxJsonState * state, int64 position)
{
	if (position > 0)
		push_attribute(state, "sequence", psprintf("%019lld", (long long) position));
}

static char *
get_text(const Datum *values, const bool *nulls, ObxEventColumn column)
{
	return nulls[column] ? NULL : TextDatumGetCString(values[column]);
}

static char *
get_traceparent(const Datum *values, const bool *nulls)
{
	if (nulls[OBX_EVENT_HEADERS])
		return NULL;
	return obx_json_find_string(DatumGetJsonbP(values[OBX_EVENT_HEADERS]), "traceparent");
}

static char *
make_source(char *source)
{
	return obx_uri_reference(to_utf8(source));
}

/* The bytes of the JSON text, without the line ends that encode() puts in. */
static char *
make_base64(const char *json)
{
	bytea	   *bytes = (bytea *) cstring_to_text(json);
	char	   *lines = TextDatumGetCString(DirectFunctionCall2(binary_encode, PointerGetDatum(bytes),
																CStringGetTextDatum("base64")));
	char	   *end = lines;

	for (const char *c = lines; *c != '\0'; c++)
		if (*c != '\n')
			*end++ = *c;
	*end = '\0';
	return lines;
}

/*
 * A CloudEvent is in UTF-8.  In a database without an encoding the data may be
 * anything: then its bytes are told as such, so that nothing is lost, and no
 * reader of many events stops at one.
 */
static void
push_data(ObxJsonState * state, Jsonb *data)
{
	char	   *json = GetDatabaseEncoding() == PG_SQL_ASCII ?
	JsonbToCString(NULL, &data->root, VARSIZE(data)) : NULL;

	push_attribute(state, "datacontenttype", "application/json");
	if (json != NULL && !pg_verify_mbstr(PG_UTF8, json, strlen(json), true))
	{
		push_attribute(state, "data_base64", make_base64(json));
		return;
	}
	obx_json_push_key(state, "data");
	obx_json_push_jsonb(state, data);
}

static Jsonb *
make_cloudevent(const Datum *values, const bool *nulls, const Lookup *lookup, int64 position)
{
	ObxJsonState state = {0};
	char	   *key = get_text(values, nulls, OBX_EVENT_KEY);

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	push_attribute(&state, "specversion", "1.0");
	push_attribute(&state, "id", make_id(lookup, DatumGetInt64(values[OBX_EVENT_ID])));
	push_attribute(&state, "source", make_source(get_text(values, nulls, OBX_EVENT_SOURCE)));
	push_attribute(&state, "type", clean_string(get_text(values, nulls, OBX_EVENT_TYPE)));
	push_time(&state, DatumGetTimestampTz(values[OBX_EVENT_TIME]));
	push_optional(&state, "subject", key);
	push_optional(&state, "partitionkey", key);
	push_sequence(&state, position);
	push_optional(&state, "correlationid", get_text(values, nulls, OBX_EVENT_CORRELATION_ID));
	if (!nulls[OBX_EVENT_CAUSATION_ID])
		push_attribute(&state, "causationid",
					   make_id(lookup, DatumGetInt64(values[OBX_EVENT_CAUSATION_ID])));
	push_optional(&state, "traceparent", get_traceparent(values, nulls));
	push_data(&state, DatumGetJsonbP(values[OBX_EVENT_DATA]));
	return obx_json_finish(&state, WJB_END_OBJECT);
}

/* ---- the event ---- */

/* The event's columns begin behind "skip" others. */
static void
deform_event(HeapTupleHeader header, int skip, Datum *values, bool *nulls)
{
	static const ObxEventColumn required[] = {
		OBX_EVENT_ID, OBX_EVENT_XID, OBX_EVENT_TIME, OBX_EVENT_TYPE, OBX_EVENT_SOURCE,
		OBX_EVENT_DATA
	};
	TupleDesc	tupdesc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header),
												 HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple;
	Datum	   *columns = palloc(tupdesc->natts * sizeof(Datum));
	bool	   *is_null = palloc(tupdesc->natts * sizeof(bool));

	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	heap_deform_tuple(&tuple, tupdesc, columns, is_null);
	memcpy(values, &columns[skip], OBX_EVENT_COLUMNS * sizeof(Datum));
	memcpy(nulls, &is_null[skip], OBX_EVENT_COLUMNS * sizeof(bool));

	for (int i = 0; i < lengthof(required); i++)
		if (nulls[required[i]])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the event's \"%s\" must not be null",
							NameStr(TupleDescAttr(tupdesc, required[i] + skip)->attname)),
					 errdetail("A CloudEvent is made of all columns that the log requires."),
					 errhint("Pass a row of outbox.event, outbox.read() or outbox.receive().")));
	if (VARSIZE_ANY_EXHDR(DatumGetPointer(values[OBX_EVENT_TYPE])) == 0)
		obx_event_check_type("", 0);
	ReleaseTupleDesc(tupdesc);
}

/*
 * A query asks for many events: what they have in common is looked up once,
 * and where the last one was makes the next one cheap.  Positions never
 * change, and the generation not within a transaction.
 */
static Lookup *
make_lookup(FunctionCallInfo fcinfo)
{
	Lookup	   *lookup = fcinfo->flinfo->fn_extra;
	MemoryContext old;

	if (lookup != NULL && lookup->transaction == obx_my_lxid())
		return lookup;
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	if (lookup == NULL)
	{
		lookup = palloc0(sizeof(Lookup));
		lookup->place.memory = AllocSetContextCreate(CurrentMemoryContext,
													 "pg_outbox place of an event",
													 ALLOCSET_DEFAULT_SIZES);
		fcinfo->flinfo->fn_extra = lookup;
	}
	lookup->transaction = obx_my_lxid();
	lookup->generations = obx_generations_load(GetActiveSnapshot());
	lookup->place.segment = NULL;
	MemoryContextSwitchTo(old);
	return lookup;
}

/* A handler's own event was read with its position. */
static int64
find_position(const Datum *values, Lookup *lookup)
{
	const ObxContext *context = obx_context_current();
	int64		id = DatumGetInt64(values[OBX_EVENT_ID]);

	if (context != NULL && context->event_id == id)
		return context->position;
	return obx_event_locate(GetActiveSnapshot(),
							U64FromFullTransactionId(DatumGetFullTransactionId(values[OBX_EVENT_XID])),
							id, &lookup->place);
}

/* The event's columns begin behind "skip" others. */
static Jsonb *
convert(FunctionCallInfo fcinfo, int skip)
{
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
	Lookup	   *lookup;

	obx_argument_require(fcinfo, 0, "event");
	deform_event(PG_GETARG_HEAPTUPLEHEADER(0), skip, values, nulls);
	lookup = make_lookup(fcinfo);
	return make_cloudevent(values, nulls, lookup, find_position(values, lookup));
}

/*
 * to_cloudevent(event)
 */
Datum
obx_sql_to_cloudevent(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(convert(fcinfo, 0));
}

/*
 * to_cloudevent(event), of a row that begins with the position.  The position is
 * looked up in the log: the caller may pass any row, not only one from read().
 */
Datum
obx_sql_positioned_to_cloudevent(PG_FUNCTION_ARGS)
{
	PG_RETURN_JSONB_P(convert(fcinfo, 1));
}
