/*
 * A source as a URI reference, in the way outbox.to_cloudevent() makes one:
 * first only the characters that no reference can contain are percent-encoded;
 * if the result does not have the form of a reference, all characters with a
 * meaning are.
 */
#include "event/event.h"

#include "../../base/uri_syntax.h"

void
obx_uri_append_escaped(ObxText *text, unsigned char c)
{
	obx_text_printf(text, "%%%02X", c);
}

static void
append_possible(ObxText *text, const char *source)
{
	bool		has_fragment = false;

	for (const char *c = source; *c != '\0'; c++)
	{
		if (obx_uri_is_possible(c, has_fragment))
			obx_text_append_char(text, *c);
		else
			obx_uri_append_escaped(text, *c);
		has_fragment = has_fragment || *c == '#';
	}
}

static void
append_encoded(ObxText *text, const char *source)
{
	for (const char *c = source; *c != '\0'; c++)
		if (obx_uri_is_plain(*c))
			obx_text_append_char(text, *c);
		else
			obx_uri_append_escaped(text, *c);
}

void
obx_uri_append_reference(ObxText *result, const char *source)
{
	size_t		start = result->length;

	if (source[0] == '\0')
	{
		obx_text_append_char(result, '/');
		return;
	}
	append_possible(result, source);
	if (obx_uri_has_form(result->data + start))
		return;
	result->length = start;
	result->data[start] = '\0';
	append_encoded(result, source);
}
