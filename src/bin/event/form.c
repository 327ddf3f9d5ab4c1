/*
 * The forms that an event is given: a CloudEvent as outbox.to_cloudevent()
 * makes it, Debezium's, the data alone, or the row.
 */
#include "event/event.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- times ---- */

int64_t
obx_event_milliseconds(const char *time)
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

/* An ObxAttributeFunction: as a member, and a comma. */
static void
append_attribute(void *context, const char *name, const char *value)
{
	ObxText    *text = context;

	obx_text_append_char(text, '"');
	obx_text_append_string(text, name);
	obx_text_append(text, "\":", 2);
	obx_text_append_json(text, value);
	obx_text_append_char(text, ',');
}

static void
form_cloudevent(ObxText *text, const ObxEvent *event, const ObxGenerations *generations)
{
	obx_text_append_char(text, '{');
	obx_event_attributes(event, generations, append_attribute, text);
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
	long long	at = (long long) obx_event_milliseconds(event->time);

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
	obx_text_printf(text, ",\"timestamp\":%lld,\"payload\":", (long long) obx_event_milliseconds(event->time));
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
	char		time[OBX_TIME_LENGTH];

	obx_text_printf(text, "{\"position\":%lld,\"id\":%lld,\"time\":\"%s\"",
					(long long) event->position, (long long) event->id,
					obx_event_put_time(time, event->time) ? time : event->time);
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

void
obx_event_append_id(ObxText *text, int64_t id, const ObxGenerations *generations)
{
	char		number[64];

	obx_event_put_id(number, id, generations);
	obx_text_append_string(text, number);
}

int
obx_form_columns(ObxForm form)
{
	const int	all = OBX_COLUMN_TIME | OBX_COLUMN_TYPE | OBX_COLUMN_SOURCE | OBX_COLUMN_KEY |
	OBX_COLUMN_DATA;
	const int	context = OBX_COLUMN_HEADERS | OBX_COLUMN_CORRELATION | OBX_COLUMN_CAUSATION;

	switch (form)
	{
		case OBX_FORM_CLOUDEVENTS:
			return all | context;
		case OBX_FORM_DEBEZIUM:
			return all | OBX_COLUMN_OPERATION | OBX_COLUMN_BEFORE;
		case OBX_FORM_JSON:
			return all | OBX_COLUMN_OPERATION | OBX_COLUMN_OLD | context;
		case OBX_FORM_DATA:
			break;
	}
	return OBX_COLUMN_KEY | OBX_COLUMN_DATA;
}
