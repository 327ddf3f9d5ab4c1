/*
 * Text that grows, and how a value stands in JSON or on a terminal.
 *
 * Memory that cannot be had ends the program.
 */
#ifndef OBX_BIN_TEXT_H
#define OBX_BIN_TEXT_H

#include <stdarg.h>
#include <stddef.h>

typedef struct ObxText
{
	char	   *data;			/* ends with a 0 that length does not count */
	size_t		length;
	size_t		size;
} ObxText;

extern void *obx_allocate(size_t size);
extern void *obx_reallocate(void *memory, size_t size);
extern char *obx_copy_string(const char *text);

extern void obx_text_init(ObxText *text);
extern void obx_text_clear(ObxText *text);
extern void obx_text_free(ObxText *text);
extern void obx_text_append(ObxText *text, const char *data, size_t length);
extern void obx_text_append_string(ObxText *text, const char *string);
extern void obx_text_append_char(ObxText *text, char c);
extern void obx_text_printf(ObxText *text, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void obx_text_vprintf(ObxText *text, const char *format, va_list args)
			__attribute__((format(printf, 2, 0)));

/* As a string of JSON, in quotes; "null" for NULL. */
extern void obx_text_append_json(ObxText *text, const char *string);

/*
 * So that it can do no harm on a terminal, and is one line: control characters
 * become \n, \t, \x1b.  What an event holds comes from elsewhere.
 */
extern void obx_text_append_visible(ObxText *text, const char *string);

#endif							/* OBX_BIN_TEXT_H */
