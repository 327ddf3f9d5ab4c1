/*
 * Text that grows.
 */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
require_memory(void *memory)
{
	if (memory == NULL)
	{
		fputs("pg_outbox: error: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

void *
obx_allocate(size_t size)
{
	return require_memory(calloc(1, size > 0 ? size : 1));
}

void *
obx_reallocate(void *memory, size_t size)
{
	return require_memory(realloc(memory, size > 0 ? size : 1));
}

char *
obx_copy_string(const char *text)
{
	return require_memory(strdup(text));
}

void
obx_text_init(ObxText *text)
{
	text	  ->size = 64;
	text	  ->data = obx_allocate(text->size);
	text	  ->length = 0;
}

void
obx_text_clear(ObxText *text)
{
	text	  ->length = 0;
	text	  ->data[0] = '\0';
}

void
obx_text_free(ObxText *text)
{
	free(text->data);
	text	  ->data = NULL;
	text	  ->length = text->size = 0;
}

/* Room for so much more, and the 0 behind it. */
static void
make_room(ObxText *text, size_t more)
{
	size_t		size = text->size;

	if (text->length + more < size)
		return;
	while (text->length + more >= size)
		size *= 2;
	text	  ->data = obx_reallocate(text->data, size);
	text	  ->size = size;
}

void
obx_text_append(ObxText *text, const char *data, size_t length)
{
	make_room(text, length);
	memcpy(text->data + text->length, data, length);
	text	  ->length += length;
	text	  ->data[text->length] = '\0';
}

void
obx_text_append_string(ObxText *text, const char *string)
{
	obx_text_append(text, string, strlen(string));
}

void
obx_text_append_char(ObxText *text, char c)
{
	obx_text_append(text, &c, 1);
}

void
obx_text_vprintf(ObxText *text, const char *format, va_list args)
{
	va_list		again;
	int			length;

	va_copy(again, args);
	length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (length <= 0)
		return;
	make_room(text, length);
	vsnprintf(text->data + text->length, length + 1, format, args);
	text	  ->length += length;
}

void
obx_text_printf(ObxText *text, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	obx_text_vprintf(text, format, args);
	va_end(args);
}

void
obx_text_append_json(ObxText *text, const char *string)
{
	if (string == NULL)
	{
		obx_text_append(text, "null", 4);
		return;
	}
	obx_text_append_char(text, '"');
	while (*string != '\0')
	{
		size_t		plain = 0;

		/* what needs no escape goes at once */
		while ((unsigned char) string[plain] >= 0x20 && string[plain] != '"' &&
			   string[plain] != '\\')
			plain++;
		obx_text_append(text, string, plain);
		string += plain;
		if (*string == '\0')
			break;
		if (*string == '"' || *string == '\\')
		{
			obx_text_append_char(text, '\\');
			obx_text_append_char(text, *string);
		}
		else if (*string == '\n')
			obx_text_append(text, "\\n", 2);
		else if (*string == '\t')
			obx_text_append(text, "\\t", 2);
		else
			obx_text_printf(text, "\\u%04x", (unsigned char) *string);
		string++;
	}
	obx_text_append_char(text, '"');
}

/* The bytes of a control character at the start of the text, else 0. */
static int
control_length(const unsigned char *c)
{
	if (c[0] < 0x20 || c[0] == 0x7F)
		return 1;
	/* U+0080 to U+009F, which some terminals obey, in UTF-8 */
	return c[0] == 0xC2 && c[1] >= 0x80 && c[1] <= 0x9F ? 2 : 0;
}

void
obx_text_append_visible(ObxText *text, const char *string)
{
	const unsigned char *c = (const unsigned char *) string;

	while (*c != '\0')
	{
		int			length = control_length(c);

		if (length == 0)
			obx_text_append_char(text, *c);
		else if (*c == '\n')
			obx_text_append(text, "\\n", 2);
		else if (*c == '\t')
			obx_text_append(text, "\\t", 2);
		else
			obx_text_printf(text, "\\x%02x", length == 2 ? c[1] : c[0]);
		c += length > 0 ? length : 1;
	}
}
