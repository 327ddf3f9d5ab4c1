/*
 * What became of each attempt at an event that failed: a jsonb array, the oldest
 * first.
 *
 * Its size is bounded, for every attempt writes all of it: of many entries the
 * first and the last ones stay, which tell how it began and how it goes on, and
 * long messages are cut.  The last one is whole in the columns beside it.
 *
 * Must not know rows or transactions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/error.h"
#include "base/json.h"
#include "dispatch/attempts.h"

#define ENTRIES 20
#define MESSAGE_MAX_LENGTH 500

static void
push_time(ObxJsonState * state, const char *name, TimestampTz time)
{
	char text[	MAXDATELEN + 1];

	(void) JsonEncodeDateTime(text, TimestampTzGetDatum(time), TIMESTAMPTZOID, NULL);
	obx_json_push_key(state, name);
	obx_json_push_string(state, pstrdup(text));
}

static Jsonb *
make_entry(const ObxDelivery *delivery, int number)
{
	ObxJsonState state = {0};
	int			length = strlen(delivery->error);

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	obx_json_push_key(&state, "attempt");
	obx_json_push_number(&state, number);
	push_time(&state, "failed_at", delivery->failed_at);
	obx_json_push_key(&state, "sqlstate");
	obx_json_push_string(&state, delivery->sqlstate);
	obx_json_push_key(&state, "error");
	obx_json_push_string(&state, pnstrdup(delivery->error,
										  pg_mbcliplen(delivery->error, length,
													   MESSAGE_MAX_LENGTH)));
	return obx_json_finish(&state, WJB_END_OBJECT);
}

/* An entry of the same attempt that says nothing any more. */
static bool
is_replaced(const JsonbValue *entry, int number)
{
	JsonbValue	name = {.type = jbvString};
	JsonbValue *value;
	char	   *sqlstate;

	if (entry->type != jbvBinary || !JsonContainerIsObject(entry->val.binary.data))
		return false;
	name.val.string.val = "attempt";
	name.val.string.len = strlen(name.val.string.val);
	value = findJsonbValueFromContainer(entry->val.binary.data, JB_FOBJECT, &name);
	if (value == NULL || value->type != jbvNumeric ||
		DatumGetInt32(DirectFunctionCall1(numeric_int4,
										  NumericGetDatum(value->val.numeric))) != number)
		return false;
	name.val.string.val = "sqlstate";
	name.val.string.len = strlen(name.val.string.val);
	value = findJsonbValueFromContainer(entry->val.binary.data, JB_FOBJECT, &name);
	if (value == NULL || value->type != jbvString)
		return false;
	sqlstate = pnstrdup(value->val.string.val, value->val.string.len);
	return strcmp(sqlstate, unpack_sql_state(ERRCODE_CRASH_SHUTDOWN)) == 0 ||
		strcmp(sqlstate, unpack_sql_state(OBX_ERRCODE_RETRY_LATER)) == 0;
}

/* Puts the entry at the end, in place of the last one of attempt "number" (0: none). */
static void
append(ObxDelivery *delivery, Jsonb *entry, int number)
{
	Jsonb	   *former = delivery->history == (Datum) 0 ? NULL : DatumGetJsonbP(delivery->history);
	int			count = former == NULL || !JB_ROOT_IS_ARRAY(former) ? 0 : JB_ROOT_COUNT(former);
	ObxJsonState state = {0};

	if (count > 0 && number > 0 &&
		is_replaced(getIthJsonbValueFromContainer(&former->root, count - 1), number))
		count--;
	obx_json_push(&state, WJB_BEGIN_ARRAY, NULL);
	for (int i = 0; i < count; i++)
		if (i == 0 || i > count - (ENTRIES - 1))
			obx_json_push(&state, WJB_ELEM, getIthJsonbValueFromContainer(&former->root, i));
	obx_json_push_element(&state, entry);
	delivery->history = JsonbPGetDatum(obx_json_finish(&state, WJB_END_ARRAY));
}

void
obx_attempts_note(ObxDelivery *delivery, int number)
{
	append(delivery, make_entry(delivery, number), number);
}

void
obx_attempts_note_redrive(ObxDelivery *delivery)
{
	ObxJsonState state = {0};

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	push_time(&state, "redriven_at", GetCurrentTimestamp());
	append(delivery, obx_json_finish(&state, WJB_END_OBJECT), 0);
}
