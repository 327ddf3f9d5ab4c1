/*
 * The forms that an event is given: a CloudEvent as outbox.to_cloudevent()
 * makes it, Debezium's, the data alone, or the row.
 */
#include "event/event.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- ids and times ---- */

static int
generation_of(int64_t id, const ObxGenerations *generations)
{
	int			found = 1;

	for (int i = 0; i < generations->count && generations->list[i].first_id <= id; i++)
		found = generations->list[i].generation;
	return found;
}

void
obx_event_append_id(ObxText *text, int64_t id, const ObxGenerations *generations)
{
	obx_text_printf(text, "%d-%lld", generation_of(id, generations), (long long) id);
}

/*
 * "2026-01-05 09:00:00.123+00" as RFC 3339 writes it; false for what that does
 * not have: infinity, and years of more than four digits or before Christ.
 */
static bool
append_time(ObxText *text, const char *time)
{
	size_t		length = strlen(time);

	if (length < 22 || time[4] != '-' || time[10] != ' ' || strcmp(time + length - 3, "+00") != 0)
		return false;
	obx_text_append(text, time, 10);
	obx_text_append_char(text, 'T');
	obx_text_append_string(text, time + 11);
	obx_text_append_string(text, ":00");
	return true;
}

/* Milliseconds since 1970; the time is in UTC. */
static long long
milliseconds_of(const char *time)
{
	struct tm	tm = {0};
	const char *rest = strptime(time, "%Y-%m-%d %H:%M:%S", &tm);
	long long	result;
	int			digits = 0;

	if (rest == NULL)
		return 0;
	result = timegm(&tm);
	if (*rest == '.')
		rest++;
	for (; digits < 3; digits++)
		result = result * 10 + (*rest >= '0' && *rest <= '9' ? *rest++ - '0' : 0);
	return result;
}

/* ---- CloudEvents ---- */

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
append_attribute(ObxText *text, const char *name, const char *value)
{
	ObxText		clean;
	int			length;

	if (value == NULL || value[0] == '\0')
		return;
	obx_text_printf(text, "\"%s\":", name);
	if (is_plain_ascii(value))
	{
		obx_text_append_json(text, value);
		obx_text_append_char(text, ',');
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
	obx_text_append_json(text, clean.data);
	obx_text_append_char(text, ',');
	obx_text_free(&clean);
}

static void
append_source(ObxText *text, const char *source)
{
	ObxText		reference;

	obx_text_init(&reference);
	obx_uri_append_reference(&reference, source);
	append_attribute(text, "source", reference.data);
	obx_text_free(&reference);
}

static void
append_traceparent(ObxText *text, const char *headers)
{
	ObxText		value;

	if (headers == NULL || strstr(headers, "\"traceparent\"") == NULL)
		return;
	obx_text_init(&value);
	if (obx_json_find(headers, "traceparent", &value))
		append_attribute(text, "traceparent", value.data);
	obx_text_free(&value);
}

static void
form_cloudevent(ObxText *text, const ObxEvent *event, const ObxGenerations *generations)
{
	size_t		before;

	obx_text_append_string(text, "{\"specversion\":\"1.0\",\"id\":\"");
	obx_event_append_id(text, event->id, generations);
	obx_text_append_string(text, "\",");
	append_source(text, event->source);
	append_attribute(text, "type", event->type);
	before = text->length;

	obx_text_append_string(text, "\"time\":\"");
	if (append_time(text, event->time))
		obx_text_append_string(text, "\",");
	else
		text	  ->length = before;

	append_attribute(text, "subject", event->key);
	append_attribute(text, "partitionkey", event->key);
	obx_text_printf(text, "\"sequence\":\"%019lld\",", (long long) event->position);
	append_attribute(text, "correlationid", event->correlation_id);
	if (event->causation_id != NULL)
	{
		obx_text_append_string(text, "\"causationid\":\"");
		obx_text_printf(text, "%d-%s", generation_of(strtoll(event->causation_id, NULL, 10), generations),
						event->causation_id);
		obx_text_append_string(text, "\",");
	}
	append_traceparent(text, event->headers);
	obx_text_append_string(text, "\"datacontenttype\":\"application/json\",\"data\":");
	obx_text_append_string(text, event->data);
	obx_text_append_char(text, '}');
}

/* ---- Debezium ---- */

static const char *
debezium_operation(const char *operation)
{
	switch (operation[0])
	{
		case 'i':
			return "c";
		case 'u':
			return "u";
		case 'd':
			return "d";
		case 't':
			return "t";
	}
	return "r";					/* snapshot */
}

/* "schema.table" of the source, split at its first dot. */
static void
append_table(ObxText *text, const char *source)
{
	const char *dot = strchr(source, '.');
	char	   *schema = obx_copy_string(source);

	schema[dot != NULL ? dot - source : 0] = '\0';
	obx_text_append_string(text, "\"schema\":");
	obx_text_append_json(text, schema);
	obx_text_append_string(text, ",\"table\":");
	obx_text_append_json(text, dot != NULL ? dot + 1 : source);
	free(schema);
}

/* A captured row: as the connector for PostgreSQL tells of a change. */
static void
form_change(ObxText *text, const ObxEvent *event, const ObxGenerations *generations)
{
	const char *op = debezium_operation(event->operation);
	bool		deleted = *op == 'd';
	long long	at = milliseconds_of(event->time);

	obx_text_append_string(text, "{\"before\":");
	if (deleted)
		obx_text_append_string(text, event->data);
	else
		obx_text_append_string(text, event->old != NULL ? event->old : "null");
	obx_text_append_string(text, ",\"after\":");
	obx_text_append_string(text, deleted || *op == 't' ? "null" : event->data);
	obx_text_append_string(text, ",\"source\":{\"version\":\"1.0\",\"connector\":\"pg_outbox\",");
	obx_text_printf(text, "\"ts_ms\":%lld,\"snapshot\":\"%s\",", at, *op == 'r' ? "true" : "false");
	append_table(text, event->source);
	obx_text_printf(text, ",\"position\":%lld,\"id\":\"", (long long) event->position);
	obx_event_append_id(text, event->id, generations);
	obx_text_append_string(text, "\",\"type\":");
	obx_text_append_json(text, event->type);
	obx_text_printf(text, "},\"op\":\"%s\",\"ts_ms\":%lld}", op, at);
}

/* A published event: a row of the table that the outbox event router reads. */
static void
form_outbox(ObxText *text, const ObxEvent *event, const ObxGenerations *generations)
{
	obx_text_append_string(text, "{\"id\":\"");
	obx_event_append_id(text, event->id, generations);
	obx_text_append_string(text, "\",\"aggregatetype\":");
	obx_text_append_json(text, event->source);
	obx_text_append_string(text, ",\"aggregateid\":");
	obx_text_append_json(text, event->key);
	obx_text_append_string(text, ",\"type\":");
	obx_text_append_json(text, event->type);
	obx_text_printf(text, ",\"timestamp\":%lld,\"payload\":", milliseconds_of(event->time));
	obx_text_append_string(text, event->data);
	obx_text_append_char(text, '}');
}

/* ---- the row ---- */

static void
append_member(ObxText *text, const char *name, const char *value)
{
	obx_text_printf(text, ",\"%s\":", name);
	obx_text_append_json(text, value);
}

static void
append_raw(ObxText *text, const char *name, const char *value)
{
	obx_text_printf(text, ",\"%s\":", name);
	obx_text_append_string(text, value != NULL ? value : "null");
}

static void
form_row(ObxText *text, const ObxEvent *event)
{
	size_t		before;

	obx_text_printf(text, "{\"position\":%lld,\"id\":%lld,\"time\":\"",
					(long long) event->position, (long long) event->id);
	before = text->length;

	if (!append_time(text, event->time))
	{
		text	  ->length = before;

		obx_text_append_string(text, event->time);
	}
	obx_text_append_char(text, '"');
	append_member(text, "type", event->type);
	append_member(text, "source", event->source);
	append_member(text, "key", event->key);
	append_member(text, "operation", event->operation);
	append_raw(text, "data", event->data);
	append_raw(text, "old", event->old);
	append_raw(text, "headers", event->headers);
	append_member(text, "correlation_id", event->correlation_id);
	append_raw(text, "causation_id", event->causation_id);
	obx_text_append_char(text, '}');
}

void
obx_event_form(ObxText *text, const ObxEvent *event, const ObxGenerations *generations, ObxForm form)
{
	switch (form)
	{
		case OBX_FORM_CLOUDEVENTS:
			form_cloudevent(text, event, generations);
			break;
		case OBX_FORM_DEBEZIUM:
			if (event->operation != NULL)
				form_change(text, event, generations);
			else
				form_outbox(text, event, generations);
			break;
		case OBX_FORM_DATA:
			obx_text_append_string(text, event->data);
			break;
		case OBX_FORM_JSON:
			form_row(text, event);
			break;
	}
}
