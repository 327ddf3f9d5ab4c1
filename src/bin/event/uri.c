/*
 * A source as an URI-reference, by RFC 3986, as outbox.to_cloudevent() makes
 * it: what can stand nowhere in one is percent-encoded; if the result has no
 * right form still, so is everything that has a meaning of its own.
 */
#include "event/event.h"

#include <string.h>

#define PLAIN_MARKS "-._~!$&'()*+,;=@"

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
	return is_alpha(c) || is_digit(c) || is_one_of(c, PLAIN_MARKS);
}

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
		if (is_plain(*c) || is_one_of(*c, ":/?") || (*c == '#' && !has_fragment) ||
			(*c == '%' && is_hex_digit(c[1]) && is_hex_digit(c[2])))
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
		if (is_plain(*c))
			obx_text_append_char(text, *c);
		else
			obx_uri_append_escaped(text, *c);
}

static bool
is_scheme(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!is_alpha(text[i]) && (i == 0 || (!is_digit(text[i]) && !is_one_of(text[i], "+-."))))
			return false;
	return length > 0;
}

/* [userinfo "@"] host [":" port] */
static bool
is_authority(const char *text, size_t length)
{
	const char *end = text +length;
	const char *at = memchr(text, '@', length);
	const char *host = at != NULL ? at + 1 : text;
	const char *port;

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
	size_t		length = strcspn(text, ":/?#");

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

void
obx_uri_append_reference(ObxText *text, const char *source)
{
	size_t		start = text->length;

	if (source[0] == '\0')
	{
		obx_text_append_char(text, '/');
		return;
	}
	append_possible(text, source);
	if (has_form(text->data + start))
		return;
	text	  ->length = start;
	text	  ->data[start] = '\0';

	append_encoded(text, source);
}
