/*
 * Text as a URI reference, by RFC 3986.
 *
 * First only the characters that no reference can contain are percent-encoded,
 * so that a real reference stays as it is.  If the result does not have the form
 * of a reference (a colon after something that is no scheme, a wrong authority),
 * all characters with a meaning are encoded, which leaves a relative path of one
 * segment.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/uri_syntax.h"
#include "sqlapi/uri.h"

void
obx_uri_append_escaped(StringInfo out, char byte)
{
	appendStringInfo(out, "%%%02X", (unsigned char) byte);
}

static char *
encode_impossible(const char *string)
{
	StringInfoData out;
	bool		has_fragment = false;

	initStringInfo(&out);
	for (const char *c = string; *c != '\0'; c++)
	{
		if (obx_uri_is_possible(c, has_fragment))
			appendStringInfoChar(&out, *c);
		else
			obx_uri_append_escaped(&out, *c);
		has_fragment = has_fragment || *c == '#';
	}
	return out.data;
}

static char *
encode_everything(const char *string)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *c = string; *c != '\0'; c++)
	{
		if (obx_uri_is_plain(*c))
			appendStringInfoChar(&out, *c);
		else
			obx_uri_append_escaped(&out, *c);
	}
	return out.data;
}

char *
obx_uri_reference(const char *string)
{
	char	   *reference;

	if (string[0] == '\0')
		return pstrdup("/");
	reference = encode_impossible(string);
	return obx_uri_has_form(reference) ? reference : encode_everything(string);
}
