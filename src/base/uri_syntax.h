/*
 * The syntax of URI references, by RFC 3986.
 *
 * The extension and the program both include this file, so it includes nothing
 * of either.  IP literals in brackets are not supported.
 */
#ifndef OBX_URI_SYNTAX_H
#define OBX_URI_SYNTAX_H

#include <stdbool.h>
#include <string.h>

static inline bool
obx_uri_is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static inline bool
obx_uri_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static inline bool
obx_uri_is_hex_digit(char c)
{
	return obx_uri_is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static inline bool
obx_uri_is_one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/* May the character stand in any part of a reference, without a meaning? */
static inline bool
obx_uri_is_plain(char c)
{
	return obx_uri_is_alpha(c) || obx_uri_is_digit(c) || obx_uri_is_one_of(c, "-._~!$&'()*+,;=@");
}

/*
 * May the character at *c stand in a reference?  It ends with '\0'; has_fragment
 * tells whether a "#" comes before it.
 */
static inline bool
obx_uri_is_possible(const char *c, bool has_fragment)
{
	return obx_uri_is_plain(*c) || obx_uri_is_one_of(*c, ":/?") || (*c == '#' && !has_fragment) ||
		(*c == '%' && obx_uri_is_hex_digit(c[1]) && obx_uri_is_hex_digit(c[2]));
}

static inline bool
obx_uri_is_scheme(const char *string, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (!obx_uri_is_alpha(string[i]) &&
			(i == 0 || (!obx_uri_is_digit(string[i]) && !obx_uri_is_one_of(string[i], "+-."))))
			return false;
	return length > 0;
}

/* [userinfo "@"] host [":" port] */
static inline bool
obx_uri_is_authority(const char *string, size_t length)
{
	const char *end = string + length;
	const char *at = (const char *) memchr(string, '@', length);
	const char *host = at != NULL ? at + 1 : string;
	const char *port;

	if (memchr(host, '@', end - host) != NULL)
		return false;
	port = (const char *) memchr(host, ':', end - host);
	if (port != NULL)
		for (const char *c = port + 1; c < end; c++)
			if (!obx_uri_is_digit(*c))
				return false;
	return true;
}

/* Has the string the form of a reference?  All its characters are possible ones. */
static inline bool
obx_uri_has_form(const char *string)
{
	size_t		length = strcspn(string, ":/?#");

	if (string[length] == ':')
	{
		if (!obx_uri_is_scheme(string, length))
			return false;
		string += length + 1;
	}
	if (strncmp(string, "//", 2) == 0)
		return obx_uri_is_authority(string + 2, strcspn(string + 2, "/?#"));
	return true;
}

#endif							/* OBX_URI_SYNTAX_H */
