/*
 * pg_outbox relay: carries the events of a subscription to a sink.
 */
#include <string.h>

#include "base/log.h"
#include "cli/command.h"
#include "relay/relay.h"

#define DIRECTORY "/etc/pg_outbox"

static int
run_relay(ObxCall *call)
{
	const char *path = obx_call_value(call, "config");
	ObxText text;
	int			code;

	if ((path != NULL) == (call->narguments == 1))
		obx_call_refuse(call, "give either the name of a relay or --config");
	if (obx_call_has(call, "check") && obx_call_has(call, "once"))
		obx_call_refuse(call, "only one of --check and --once can be given");
	obx_text_init(&text);
	if (path == NULL)
	{
		const char *name = call->arguments[0];

		if (strchr(name, '/') != NULL || name[0] == '.' || name[0] == '\0')
			obx_call_refuse(call, "\"%s\" is no name of a relay: a file is named with --config", name);
		obx_text_printf(&text, DIRECTORY "/%s.conf", name);
		path = text.data;
	}
	code = obx_relay_run(path, &call->connect,
						 obx_call_has(call, "check") ? OBX_RELAY_CHECK :
						 obx_call_has(call, "once") ? OBX_RELAY_ONCE : OBX_RELAY_FOREVER);
	obx_text_free(&text);
	return code;
}

const ObxCommand obx_relay_command = {
	.name = "relay",
	.usage = "NAME | --config FILE [--check|--once]",
	.summary = "carry the events of a subscription elsewhere, in order",
	.more = "The configuration of the relay NAME is " DIRECTORY "/NAME.conf.\n"
	"SIGTERM lets it finish what is under way, a second one stops it at once; SIGHUP lets it\n"
	"read its configuration again.  Exit codes: 0 stopped, 1 configuration, 2 gave up on the\n"
	"database, 3 the sink refuses it, 4 the sink's progress contradicts the log.",
	.max_arguments = 1,
	.run = run_relay,
	.options = {
		{'c', "config", "FILE", NULL, "the configuration file"},
		{0, "check", NULL, NULL, "connect to both sides, say what is there, and change nothing"},
		{0, "once", NULL, NULL, "end when there is nothing left to do"},
		{0}
	}
};
