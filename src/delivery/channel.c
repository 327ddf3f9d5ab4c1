/*
 * Targets that are NOTIFY channels.
 *
 * A notification carries at least the position, so that no two of a
 * transaction are alike (PostgreSQL folds those that are), and at most what
 * NOTIFY takes: members that do not fit are left out, largest first, and
 * "truncated" says so.
 *
 * Must not know who listens.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "delivery/channel.h"

/* NOTIFY's own limit, async.c: less than this many bytes. */
#define OBX_PAYLOAD_LIMIT	8000

typedef struct ChannelTarget
{
	ObxTarget	target;
	MemoryContext call_memory;	/* reset after each notification */
} ChannelTarget;

/* Members in the order in which they stand in the payload. */
static const struct
{
	const char *name;
	ObxEventColumn column;
	bool		always;			/* even where too little room is left */
	bool		event_only;		/* with payload => 'event' */
}			members[] =

{
	{"id", OBX_EVENT_ID, true, false},
	{"type", OBX_EVENT_TYPE, false, false},
	{"key", OBX_EVENT_KEY, false, false},
	{"source", OBX_EVENT_SOURCE, false, false},
	{"time", OBX_EVENT_TIME, false, false},
	{"data", OBX_EVENT_DATA, false, true},
	{"headers", OBX_EVENT_HEADERS, false, true},
	{"correlation_id", OBX_EVENT_CORRELATION_ID, false, true},
	{"causation_id", OBX_EVENT_CAUSATION_ID, false, true},
};

static char *
format_number(int64 number)
{
	char	   *text = palloc(MAXINT8LEN + 1);

	pg_lltoa(number, text);
	return text;
}

/* The value as JSON.  Once for each notification, so nothing here reads a format. */
static char *
format_value(ObxEventColumn column, Datum value)
{
	StringInfoData json;

	switch (column)
	{
		case OBX_EVENT_ID:
		case OBX_EVENT_CAUSATION_ID:
			return format_number(DatumGetInt64(value));
		case OBX_EVENT_DATA:
		case OBX_EVENT_HEADERS:
			{
				Jsonb	   *jsonb = DatumGetJsonbP(value);

				return JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
			}
		case OBX_EVENT_TIME:
			{
				char	   *time = palloc(MAXDATELEN + 3);

				time[0] = '"';
				JsonEncodeDateTime(time + 1, value, TIMESTAMPTZOID, NULL);
				strcat(time, "\"");
				return time;
			}
		default:
			initStringInfo(&json);
			escape_json(&json, TextDatumGetCString(value));
			return json.data;
	}
}

/* Leaves out the largest value that need not stand; false if none is left. */
static bool
drop_largest(char **values)
{
	int			largest = -1;

	for (int i = 0; i < lengthof(members); i++)
		if (values[i] != NULL && !members[i].always &&
			(largest < 0 || strlen(values[i]) > strlen(values[largest])))
			largest = i;
	if (largest >= 0)
		values[largest] = NULL;
	return largest >= 0;
}

static void
write_payload(StringInfo payload, int64 position, char **values, bool truncated)
{
	resetStringInfo(payload);
	appendStringInfoString(payload, "{\"position\":");
	appendStringInfoString(payload, format_number(position));
	for (int i = 0; i < lengthof(members); i++)
	{
		if (values[i] == NULL)
			continue;
		appendStringInfoString(payload, ", \"");
		appendStringInfoString(payload, members[i].name);
		appendStringInfoString(payload, "\":");
		appendStringInfoString(payload, values[i]);
	}
	appendStringInfoString(payload, truncated ? ", \"truncated\":true}" : "}");
}

static char *
make_payload(ChannelTarget *target, const ObxTargetEvent *event)
{
	char	   *values[lengthof(members)];
	StringInfoData payload;
	bool		truncated = false;

	for (int i = 0; i < lengthof(members); i++)
	{
		bool		isnull = true;
		Datum		value = (Datum) 0;

		if (!members[i].event_only || target->target.subscription->payload_event)
			value = heap_getattr(event->tuple, members[i].column + 1, target->target.tupdesc,
								 &isnull);
		else
		{
			values[i] = NULL;
			continue;
		}
		values[i] = isnull ? pstrdup("null") : format_value(members[i].column, value);
	}

	initStringInfo(&payload);
	write_payload(&payload, event->position, values, false);
	while (payload.len >= OBX_PAYLOAD_LIMIT && drop_largest(values))
	{
		truncated = true;
		write_payload(&payload, event->position, values, truncated);
	}
	return payload.data;
}

static void
notify_channel(ObxTarget *base, const ObxTargetEvent *events, int count)
{
	ChannelTarget *target = (ChannelTarget *) base;
	MemoryContext old = MemoryContextSwitchTo(target->call_memory);

	for (int i = 0; i < count; i++)
	{
		Async_Notify(target->target.subscription->channel, make_payload(target, &events[i]));
		MemoryContextReset(target->call_memory);
	}
	MemoryContextSwitchTo(old);
}

ObxTarget *
obx_channel_open(const ObxSubscription *subscription)
{
	ChannelTarget *target = palloc0(sizeof(ChannelTarget));

	obx_target_init(&target->target, subscription);
	target->target.runs_code = false;
	target->target.deliver = notify_channel;
	target->call_memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox notification",
												ALLOCSET_DEFAULT_SIZES);
	return &target->target;
}
