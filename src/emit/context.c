/*
 * What an event inherits: correlation, cause and headers.
 *
 * The three settings take precedence over the values of the handled event,
 * because a handler that sets one intends that.  They also take precedence
 * over a comment of the client's statement, which is read outside of handlers
 * only.  Must not know dispatch.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "base/json.h"
#include "base/settings.h"
#include "emit/comment.h"
#include "emit/context.h"

/* headers that the extension sets event by event: nothing inherits them */
static const char *const own_headers[] = {
	"partition", "old_key", "causes", "moved_from", "schema_version"
};

static const ObxContext *current = NULL;

/* what SHOW says in a handler; strings live in the caller's memory */
static ObxInheritedSettings inherited;

static Jsonb *
empty_object(void)
{
	static Jsonb *empty = NULL;

	if (empty == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		empty = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
		MemoryContextSwitchTo(old);
	}
	return empty;
}

static bool
has_header(Jsonb *headers, const char *name)
{
	JsonbValue	key = {.type = jbvString};

	key.val.string.val = unconstify(char *, name);
	key.val.string.len = strlen(name);
	return findJsonbValueFromContainer(&headers->root, JB_FOBJECT, &key) != NULL;
}

static Jsonb *
delete_header(Jsonb *headers, const char *name)
{
	if (!has_header(headers, name))
		return headers;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(headers),
											  PointerGetDatum(cstring_to_text(name))));
}

/* "over" wins where both have a member */
static Jsonb *
merge_headers(Jsonb *under, Jsonb *over)
{
	if (under == NULL || JB_ROOT_COUNT(under) == 0)
		return over;
	if (over == NULL || JB_ROOT_COUNT(over) == 0)
		return under;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(under),
											  JsonbPGetDatum(over)));
}

/* Nothing else, as in most captured events?  Then there is nothing to inherit. */
static bool
has_own_only(Jsonb *headers)
{
	int			count = 0;

	for (int i = 0; i < lengthof(own_headers); i++)
		count += has_header(headers, own_headers[i]);
	return count == JB_ROOT_COUNT(headers);
}

/* what the handled event hands down, traceparent included */
static Jsonb *
inherited_headers(void)
{
	Jsonb	   *headers = current->headers;

	for (int i = 0; i < lengthof(own_headers); i++)
		headers = delete_header(headers, own_headers[i]);
	return headers;
}

void
obx_context_enter(const ObxContext *context)
{
	inherited.correlation_id = context->correlation_id;
	inherited.traceparent = NULL;
	inherited.headers = NULL;
	current = context;

	if (context->headers != NULL && JB_ROOT_COUNT(context->headers) > 0 &&
		!has_own_only(context->headers))
	{
		Jsonb	   *headers = inherited_headers();

		inherited.traceparent = obx_json_find_string(headers, "traceparent");
		headers = delete_header(headers, "traceparent");
		if (JB_ROOT_COUNT(headers) > 0)
			inherited.headers = JsonbToCString(NULL, &headers->root, VARSIZE(headers));
	}
	obx_settings_inherit(&inherited);
}

void
obx_context_leave(void)
{
	current = NULL;
	obx_settings_inherit(NULL);
}

const ObxContext *
obx_context_current(void)
{
	return current;
}

const char *
obx_context_correlation(void)
{
	if (obx_correlation_id != NULL && obx_correlation_id[0] != '\0')
		return obx_correlation_id;
	return current != NULL ? current->correlation_id : NULL;
}

Jsonb *
obx_context_headers(Jsonb *own)
{
	Jsonb	   *headers = NULL;

	if (obx_headers != NULL && obx_headers[0] != '\0')
		headers = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													 CStringGetDatum(obx_headers)));
	else if (inherited.headers != NULL && current != NULL)
		headers = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
													 CStringGetDatum(inherited.headers)));

	if (obx_traceparent != NULL && obx_traceparent[0] != '\0')
		headers = merge_headers(headers, obx_json_make_string("traceparent", obx_traceparent));
	else if (current == NULL)
		headers = merge_headers(obx_comment_headers(), headers);
	else if (inherited.traceparent != NULL)
		headers = merge_headers(headers, obx_json_make_string("traceparent", inherited.traceparent));

	headers = merge_headers(headers, own);
	return headers != NULL ? headers : empty_object();
}
