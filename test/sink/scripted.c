/*
 * A sink for tests, that does what a file says:
 *
 *   [scripted] out      lines of what was confirmed: position, type, key, id
 *              mood     a file: "ok"; "down", "refuse": every connection fails
 *                       so, and what was sent is forgotten; "hold": takes and
 *                       confirms nothing
 *
 * Events of the type "Never" are rejected.
 */
#include "sink/sink.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define MOST 100

typedef struct Scripted
{
	const char *out;
	const char *mood;
	bool		connecting;
	bool		connected;
	int			count;
	int64_t		tickets[MOST];
	char		lines[MOST][200];
	int			next;			/* result to be told */
} Scripted;

static void *
open_scripted(ObxConfig *config, ObxSinkTraits *traits)
{
	Scripted   *sink = obx_allocate(sizeof(Scripted));

	(void) traits;
	sink->out = obx_config_get(config, "scripted", "out");
	sink->mood = obx_config_get(config, "scripted", "mood");
	if (sink->out == NULL || sink->mood == NULL)
		obx_config_fail(config, "scripted", "out", "\"out\" and \"mood\" must be set");
	return sink;
}

static char
mood_of(const Scripted *sink)
{
	char		c = 'o';
	int			file = open(sink->mood, O_RDONLY);

	if (file >= 0)
	{
		if (read(file, &c, 1) != 1)
			c = 'o';
		close(file);
	}
	return c;
}

static void
connect_scripted(void *context)
{
	Scripted   *sink = context;

	sink->connecting = true;
}

static bool
send_scripted(void *context, const ObxMessage *message)
{
	Scripted   *sink = context;

	if (sink->count == MOST)
		return false;
	sink->tickets[sink->count] = message->ticket;
	snprintf(sink->lines[sink->count++], sizeof(sink->lines[0]), "%lld %s %s %s\n",
			 (long long) message->event->position, message->event->type,
			 message->event->key != NULL ? message->event->key : "-", message->id);
	return true;
}

static void
do_nothing(void *context)
{
	(void) context;
}

static void
seal_scripted(void *context, const char *progress)
{
	(void) context;
	(void) progress;
}

static int
wait_for_scripted(void *context, struct pollfd *descriptors, int max, int64_t * until)
{
	Scripted   *sink = context;

	(void) descriptors;
	(void) max;
	if (sink->connecting || sink->count > 0)
		*until = obx_now() + 5 * OBX_MILLISECOND;
	return 0;
}

static bool
tell_result(void *context, ObxSinkResult *result)
{
	Scripted   *sink = context;
	char		mood = mood_of(sink);

	if ((mood == 'd' || mood == 'r') && (sink->connecting || sink->connected))
	{
		*result = (ObxSinkResult)
		{
			mood == 'd' ? OBX_LATER : OBX_REFUSED, 0, "it is said so"
		};
		sink->connecting = sink->connected = false;
		sink->count = sink->next = 0;
		return true;
	}
	if (sink->connecting)
	{
		*result = (ObxSinkResult)
		{
			OBX_CONNECTED, 0, ""
		};
		sink->connecting = false;
		sink->connected = true;
		return true;
	}
	if (mood == 'h' || sink->next == sink->count)
	{
		if (sink->next == sink->count)
			sink->next = sink->count = 0;
		return false;
	}
	result->ticket = sink->tickets[sink->next];
	if (strstr(sink->lines[sink->next], " Never ") != NULL)
	{
		result->verdict = OBX_NEVER;
		snprintf(result->text, sizeof(result->text), "never");
	}
	else
	{
		FILE	   *out = fopen(sink->out, "a");

		if (out == NULL)
			abort();
		fputs(sink->lines[sink->next], out);
		fclose(out);
		result->verdict = OBX_CONFIRMED;
	}
	sink->next++;
	return true;
}

static void
forget(void *context)
{
	Scripted   *sink = context;

	sink->count = sink->next = 0;
}

const ObxSinkModule obx_sink = {
	.interface = OBX_SINK_INTERFACE,
	.name = "scripted",
	.open = open_scripted,
	.connect = connect_scripted,
	.send = send_scripted,
	.seal = seal_scripted,
	.wait_for = wait_for_scripted,
	.work = do_nothing,
	.result = tell_result,
	.forget = forget,
	.close = free
};
