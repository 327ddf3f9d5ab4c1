/*
 * Looking into an object as jsonb writes it: it is valid, so that it is enough
 * to step over strings and to count brackets.
 */
#include "event/event.h"

#include <stdlib.h>
#include <string.h>

/* Behind the string whose opening quote this is. */
static const char *
skip_string(const char *c)
{
	for (c++; *c != '\0' && *c != '"'; c++)
		if (*c == '\\' && c[1] != '\0')
			c++;
	return *c == '"' ? c + 1 : c;
}

/* Behind a value: at the comma or bracket that ends it. */
static const char *
skip_value(const char *c)
{
	int			depth = 0;

	while (*c != '\0' && (depth > 0 || (*c != ',' && *c != '}')))
	{
		if (*c == '"')
		{
			c = skip_string(c);
			continue;
		}
		if (*c == '{' || *c == '[')
			depth++;
		if (*c == '}' || *c == ']')
			depth--;
		c++;
	}
	return c;
}

static void
append_utf8(ObxText *text, unsigned int c)
{
	if (c < 0x80)
		obx_text_append_char(text, c);
	else if (c < 0x800)
	{
		obx_text_append_char(text, 0xC0 | (c >> 6));
		obx_text_append_char(text, 0x80 | (c & 0x3F));
	}
	else
	{
		obx_text_append_char(text, 0xE0 | (c >> 12));
		obx_text_append_char(text, 0x80 | ((c >> 6) & 0x3F));
		obx_text_append_char(text, 0x80 | (c & 0x3F));
	}
}

/* jsonb writes \u for control characters alone; others are as they are. */
static void
append_unescaped(ObxText *text, const char *c, const char *end)
{
	for (; c < end; c++)
	{
		if (*c != '\\' || c + 1 >= end)
		{
			obx_text_append_char(text, *c);
			continue;
		}
		c++;
		switch (*c)
		{
			case 'n':
				obx_text_append_char(text, '\n');
				break;
			case 't':
				obx_text_append_char(text, '\t');
				break;
			case 'r':
				obx_text_append_char(text, '\r');
				break;
			case 'b':
				obx_text_append_char(text, '\b');
				break;
			case 'f':
				obx_text_append_char(text, '\f');
				break;
			case 'u':
				if (end - c > 4)
				{
					char		hex[5] = {c[1], c[2], c[3], c[4], 0};

					append_utf8(text, strtoul(hex, NULL, 16));
					c += 4;
				}
				break;
			default:
				obx_text_append_char(text, *c);
		}
	}
}

/* The value of the member; NULL if there is none. */
static const char *
find_member(const char *object, const char *name)
{
	size_t		length = strlen(name);
	const char *c = object + 1;

	while (*c == '"' || *c == ' ' || *c == ',')
	{
		const char *member;
		bool		found;

		if (*c != '"')
		{
			c++;
			continue;
		}
		member = c + 1;
		c = skip_string(c);
		found = (size_t) (c - 1 - member) == length && strncmp(member, name, length) == 0;
		c += strspn(c, ": ");
		if (found)
			return c;
		c = skip_value(c);
	}
	return NULL;
}

bool
obx_json_find(const char *object, const char *name, ObxText *value)
{
	const char *c = find_member(object, name);

	if (c == NULL || *c != '"')
		return false;
	append_unescaped(value, c + 1, skip_string(c) - 1);
	return true;
}

bool
obx_json_find_text(const char *object, const char *name, ObxText *value)
{
	const char *c = find_member(object, name);

	if (c == NULL || *c == '{' || *c == '[' || *c == 'n')
		return false;
	if (*c == '"')
		return obx_json_find(object, name, value);
	obx_text_append(value, c, skip_value(c) - c);
	return true;
}
