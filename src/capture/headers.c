/*
 * What capture says in an event's headers.
 *
 * These names are the extension's own: what handlers emit does not inherit
 * them (log/context.c).  Knows nothing of rules.
 */
#include "postgres.h"

#include "utils/lsyscache.h"
#include "utils/numeric.h"

#include "base/compat.h"
#include "capture/headers.h"

char *
obx_headers_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		elog(ERROR, "cache lookup failed for relation %u", relid);
	return psprintf("%s.%s", get_namespace_name(get_rel_namespace(relid)), name);
}

static void
push_string(ObxJsonState * state, JsonbIteratorToken token, const char *string, int length)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, string);
	value.val.string.len = length;
	obx_json_push(state, token, &value);
}

static void
push_number(ObxJsonState * state, const char *key, int64 number)
{
	JsonbValue	value;

	push_string(state, WJB_KEY, key, strlen(key));
	value.type = jbvNumeric;
	value.val.numeric = int64_to_numeric(number);
	obx_json_push(state, WJB_VALUE, &value);
}

static ObxJsonState
begin_headers(const ObxHeaders *headers)
{
	ObxJsonState state = {0};

	obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
	if (headers->partition != NULL)
	{
		push_string(&state, WJB_KEY, "partition", strlen("partition"));
		push_string(&state, WJB_VALUE, headers->partition, strlen(headers->partition));
	}
	if (headers->schema_version > 1)
		push_number(&state, "schema_version", headers->schema_version);
	return state;
}

static Jsonb *
finish_headers(ObxJsonState state)
{
	return obx_json_finish(&state, WJB_END_OBJECT);
}

Jsonb *
obx_headers_create(const ObxHeaders *headers)
{
	return finish_headers(begin_headers(headers));
}

Jsonb *
obx_headers_create_rekeyed(const ObxHeaders *headers, const text *old_key)
{
	ObxJsonState state = begin_headers(headers);

	push_string(&state, WJB_KEY, "old_key", strlen("old_key"));
	if (old_key != NULL)
		push_string(&state, WJB_VALUE, VARDATA_ANY(old_key), VARSIZE_ANY_EXHDR(old_key));
	else
	{
		JsonbValue	null;

		null.type = jbvNull;
		obx_json_push(&state, WJB_VALUE, &null);
	}
	return finish_headers(state);
}

Jsonb *
obx_headers_create_moved(const ObxHeaders *headers, int64 departure)
{
	ObxJsonState state = begin_headers(headers);

	push_number(&state, "moved_from", departure);
	return finish_headers(state);
}
