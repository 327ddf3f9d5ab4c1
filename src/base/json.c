/*
 * Making and reading jsonb objects.
 *
 * What PostgreSQL's own interface takes ten lines for.  Must not know what
 * the objects are for.
 */
#include "postgres.h"

#include "utils/numeric.h"

#include "base/compat.h"
#include "base/json.h"

static JsonbValue
make_string(const char *string)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = strlen(string);
	return value;
}

void
obx_json_push_key(ObxJsonState * state, const char *name)
{
	JsonbValue	key = make_string(name);

	obx_json_push(state, WJB_KEY, &key);
}

void
obx_json_push_string(ObxJsonState * state, const char *string)
{
	JsonbValue	value = make_string(string);

	obx_json_push(state, WJB_VALUE, &value);
}

void
obx_json_push_number(ObxJsonState * state, int64 number)
{
	JsonbValue	value;

	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	obx_json_push(state, WJB_VALUE, &value);
}

void
obx_json_push_null(ObxJsonState * state)
{
	JsonbValue	value = {.type = jbvNull};

	obx_json_push(state, WJB_VALUE, &value);
}

static void
push_jsonb(ObxJsonState * state, JsonbIteratorToken token, Jsonb *jsonb)
{
	JsonbValue	value;

	if (JB_ROOT_IS_SCALAR(jsonb))
		JsonbExtractScalar(&jsonb->root, &value);
	else
	{
		value.type = jbvBinary;
		value.val.binary.data = &jsonb->root;
		value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
	}
	obx_json_push(state, token, &value);
}

void
obx_json_push_jsonb(ObxJsonState * state, Jsonb *jsonb)
{
	push_jsonb(state, WJB_VALUE, jsonb);
}

void
obx_json_push_element(ObxJsonState * state, Jsonb *jsonb)
{
	push_jsonb(state, WJB_ELEM, jsonb);
}

Jsonb *
obx_json_make_string(const char *name, const char *string)
{
	ObxJsonState state = {0};

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	obx_json_push_key(&state, name);
	obx_json_push_string(&state, string);
	return obx_json_finish(&state, WJB_END_OBJECT);
}

char *
obx_json_find_string(Jsonb *object, const char *name)
{
	JsonbValue	key = make_string(name);
	JsonbValue *value;

	if (!JB_ROOT_IS_OBJECT(object))
		return NULL;
	value = findJsonbValueFromContainer(&object->root, JB_FOBJECT, &key);
	if (value == NULL || value->type != jbvString)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}
