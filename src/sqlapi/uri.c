/*
 * Text as an URI-reference, by RFC 3986.
 *
 * First only what can stand nowhere in one is percent-encoded, so that a real
 * reference stays as it is.  If the result has no right form still (a colon
 * behind what is no scheme, an authority that is none), everything that has a
 * meaning of its own is encoded, which leaves a relative path of one segment.
 */
#include "postgres.h"

#include "base/compat.h"
#include "sqlapi/uri.h"

#define SUB_DELIMITERS "!$&'()*+,;="

static bool
is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_hex_digit(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
is_one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/* May it stand in any part of a reference, without a meaning? */
static bool
is_plain(char c)
{
	return is_alpha(c) || is_digit(c) || is_one_of(c, "-._~" SUB_DELIMITERS "@");
}

void
obx_uri_append_escaped(StringInfo out, char byte)
{
	appendStringInfo(out, "%%%02X", (unsigned char) byte);
}

static char *
encode_impossible(const char *text)
{
	StringInfoData out;
	bool		has_fragment = false;

	initStringInfo(&out);
	for (const char *c = text; *c != '\0'; c++)
	{
		bool		stays = is_plain(*c) || is_one_of(*c, ":/?") ||
		(*c == '#' && !has_fragment) ||
		(*c == '%' && is_hex_digit(c[1]) && is_hex_digit(c[2]));

		has_fragment = has_fragment || *c == '#';
		if (stays)
			appendStringInfoChar(&out, *c);
		else
			obx_uri_append_escaped(&out, *c);
	}
	return out.data;
}

static char *
encode_everything(const char *text)
{
	StringInfoData out;

	initStringInfo(&out);
	for (const char *c = text; *c != '\0'; c++)
	{
		if (is_plain(*c))
			appendStringInfoChar(&out, *c);
		else
			obx_uri_append_escaped(&out, *c);
	}
	return out.data;
}

static bool
is_scheme(const char *text, int length)
{
	for (int i = 0; i < length; i++)
		if (!is_alpha(text[i]) && (i == 0 || (!is_digit(text[i]) && !is_one_of(text[i], "+-."))))
			return false;
	return length > 0;
}

/* [userinfo "@"] host [":" port]; IP literals in brackets are not supported. */
static bool
is_authority(const char *text, int length)
{
	const char *end = text +length;
	const char *host = memchr(text, '@', length);
	const char *port;

	host = host != NULL ? host + 1 : text;

	if (memchr(host, '@', end - host) != NULL)
		return false;
	port = memchr(host, ':', end - host);
	if (port != NULL)
		for (const char *c = port + 1; c < end; c++)
			if (!is_digit(*c))
				return false;
	return true;
}

/* All its characters can stand in a reference: does it have the form of one? */
static bool
has_form(const char *text)
{
	int			length = strcspn(text, ":/?#");

	if (text[length] == ':')
	{
		if (!is_scheme(text, length))
			return false;
		text	  +=length + 1;
	}
	if (strncmp(text, "//", 2) == 0)
		return is_authority(text +2, strcspn(text +2, "/?#"));
	return true;
}

char *
obx_uri_reference(const char *text)
{
	char	   *reference;

	if (text[0] == '\0')
		return pstrdup("/");
	reference = encode_impossible(text);
	return has_form(reference) ? reference : encode_everything(text);
}
