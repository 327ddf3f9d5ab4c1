/*
 * A CloudEvent's attributes, with the values that outbox.to_cloudevent() gives
 * them: for the JSON form, and for sinks that carry them as headers.
 */
#include "event/event.h"

#include <stdlib.h>
#include <string.h>

/* An unsigned number, with zeros in front up to that width. */
static char *
put_number(char *to, uint64_t number, int width)
{
	char		digits[20];
	int			count = 0;

	do
		digits[count++] = '0' + number % 10;
	while ((number /= 10) > 0);
	for (; width > count; width--)
		*to++ = '0';
	while (count > 0)
		*to++ = digits[--count];
	*to = '\0';
	return to;
}

/* The code point of a sequence of that many bytes. */
static unsigned int
code_point(const unsigned char *c, int length)
{
	unsigned int point = length == 1 ? c[0] : c[0] & (0x7F >> length);

	for (int i = 1; i < length; i++)
		point = point << 6 | (c[i] & 0x3F);
	return point;
}

static int
sequence_length(const unsigned char *c)
{
	int			length = *c < 0xC0 ? 1 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : 4;

	for (int i = 1; i < length; i++)
		if ((c[i] & 0xC0) != 0x80)
			return 1;
	return length;
}

/* What CloudEvents allows in a string. */
static bool
is_character(unsigned int c)
{
	if (c < 0x20 || (c >= 0x7F && c < 0xA0))
		return false;
	return (c < 0xFDD0 || c > 0xFDEF) && (c & 0xFFFE) != 0xFFFE;
}

static bool
is_plain_ascii(const char *string)
{
	for (const unsigned char *c = (const unsigned char *) string; *c != '\0'; c++)
		if (*c < 0x20 || *c >= 0x7F)
			return false;
	return true;
}

/* Leaves out what there is not, and what is empty. */
static void
give_clean(ObxAttributeFunction give, void *context, const char *name, const char *value)
{
	ObxText		clean;
	int			length;

	if (value == NULL || value[0] == '\0')
		return;
	if (is_plain_ascii(value))
	{
		give(context, name, value);
		return;
	}
	obx_text_init(&clean);
	for (const char *c = value; *c != '\0'; c += length)
	{
		length = sequence_length((const unsigned char *) c);
		if (is_character(code_point((const unsigned char *) c, length)))
			obx_text_append(&clean, c, length);
		else
			for (int i = 0; i < length; i++)
				obx_uri_append_escaped(&clean, c[i]);
	}
	give(context, name, clean.data);
	obx_text_free(&clean);
}

static void
give_source(ObxAttributeFunction give, void *context, const char *source)
{
	ObxText		reference;

	obx_text_init(&reference);
	obx_uri_append_reference(&reference, source);
	give_clean(give, context, "source", reference.data);
	obx_text_free(&reference);
}

static void
give_traceparent(ObxAttributeFunction give, void *context, const char *headers)
{
	ObxText		value;

	if (headers == NULL || strstr(headers, "\"traceparent\"") == NULL)
		return;
	obx_text_init(&value);
	if (obx_json_find(headers, "traceparent", &value))
		give_clean(give, context, "traceparent", value.data);
	obx_text_free(&value);
}

void
obx_event_attributes(const ObxEvent *event, const ObxGenerations *generations,
					 ObxAttributeFunction give, void *context)
{
	char		number[64];
	char		time[OBX_TIME_LENGTH];

	give(context, "specversion", "1.0");
	obx_event_put_id(number, event->id, generations);
	give(context, "id", number);
	give_source(give, context, event->source);
	give_clean(give, context, "type", event->type);
	if (obx_event_put_time(time, event->time))
		give(context, "time", time);
	give_clean(give, context, "subject", event->key);
	give_clean(give, context, "partitionkey", event->key);
	put_number(number, event->position, 19);
	give(context, "sequence", number);
	give_clean(give, context, "correlationid", event->correlation_id);
	if (event->causation_id != NULL)
	{
		obx_event_put_id(number, strtoll(event->causation_id, NULL, 10), generations);
		give(context, "causationid", number);
	}
	give_traceparent(give, context, event->headers);
}

static int
generation_of(int64_t id, const ObxGenerations *generations)
{
	int			found = 1;

	for (int i = 0; i < generations->count && generations->list[i].first_id <= id; i++)
		found = generations->list[i].generation;
	return found;
}

void
obx_event_put_id(char *to, int64_t id, const ObxGenerations *generations)
{
	to = put_number(to, generation_of(id, generations), 0);
	*to++ = '-';
	put_number(to, id, 0);
}

bool
obx_event_put_time(char *to, const char *time)
{
	size_t		length = strlen(time);

	if (length < 22 || length + 4 > OBX_TIME_LENGTH || time[4] != '-' || time[10] != ' ' ||
		strcmp(time + length - 3, "+00") != 0)
		return false;
	memcpy(to, time, length);
	to[10] = 'T';
	strcpy(to + length, ":00");
	return true;
}
