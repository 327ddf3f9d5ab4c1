/*
 * What a configuration file can say.  docs/relay.md has a line for each.
 */
#include "relay/settings.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* Their positions are in each record of progress. */
#define MOST_WITH_PROGRESS 100000

static ObxForm
read_form(ObxConfig *config)
{
	const char *form = obx_config_choice(config, "format",
										 "cloudevents|cloudevents-json|debezium|data|json",
										 "cloudevents");

	if (strcmp(form, "debezium") == 0)
		return OBX_FORM_DEBEZIUM;
	if (strcmp(form, "data") == 0)
		return OBX_FORM_DATA;
	return strcmp(form, "json") == 0 ? OBX_FORM_JSON : OBX_FORM_CLOUDEVENTS;
}

static void
read_database(ObxConfig *config, const ObxConnectOptions *connect, ObxClientOptions *database)
{
	const char *dsn = obx_config_get(config, "", "dsn");

	database->connect = *connect;
	database->connect.prompt = OBX_PROMPT_NEVER;
	if (database->connect.dbname == NULL)
		database->connect.dbname = dsn;
	database->subscription = obx_config_get(config, "", "subscription");
	if (database->subscription == NULL)
		obx_config_fail(config, "", "subscription", "\"subscription\" must be set");
	database->channel = obx_config_get(config, "", "channel");
	database->batch = obx_config_number(config, "batch", 1, 10000, 1000);
	database->lease = obx_config_duration(config, "", "lease", OBX_SECOND, 3600 * OBX_SECOND,
										  30 * OBX_SECOND);
}

static void
read_sink(ObxConfig *config, ObxRelaySettings *settings)
{
	const char *name = obx_config_get(config, "", "sink");
	char	   *error = NULL;

	if (name == NULL)
	{
		obx_config_fail(config, "", "sink", "\"sink\" must be set");
		return;
	}
	settings->module = obx_module_load(name, &error);
	if (settings->module == NULL)
		obx_config_fail(config, "", "sink", "%s", error);
	else
		settings->sink = settings->module->open(config, &settings->traits);
	settings->database.wants_standing = settings->traits.keeps_progress;
	if (settings->traits.keeps_progress && settings->window > MOST_WITH_PROGRESS)
		obx_config_fail(config, "", "window", "\"window\" must be at most %d here: the sink keeps"
						" a list of these events", MOST_WITH_PROGRESS);
	settings->database.columns = obx_form_columns(settings->form) | settings->traits.columns;
	free(error);
}

/* "/etc/pg_outbox/orders.conf" is "orders". */
static char *
make_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	char	   *name = obx_copy_string(slash != NULL ? slash + 1 : path);
	char	   *dot = strrchr(name, '.');

	if (dot != NULL && dot != name)
		*dot = '\0';
	return name;
}

bool
obx_settings_read(const char *path, const ObxConnectOptions *connect,
				  ObxRelaySettings *settings, char **error)
{
	ObxConfig  *config = obx_config_read(path);

	memset(settings, 0, sizeof(*settings));
	settings->config = config;
	settings->name = make_name(path);
	if (config->error.length == 0)
	{
		read_database(config, connect, &settings->database);
		settings->window = obx_config_number(config, "window", 1, 1000000, 20000);
		settings->batch_wait = obx_config_duration(config, "", "batch_wait", OBX_MILLISECOND,
												   60 * OBX_SECOND, 20 * OBX_MILLISECOND);
		settings->give_up = obx_config_duration(config, "", "give_up", 0, 86400 * OBX_SECOND, 0);
		settings->blocks = strcmp(obx_config_choice(config, "on_reject", "block|dead_letter",
													"dead_letter"), "block") == 0;
		settings->listen = obx_config_get(config, "", "listen");
		settings->form = read_form(config);
		read_sink(config, settings);
		obx_config_refuse_unused(config);
	}
	if (config->error.length == 0)
		return true;
	*error = obx_copy_string(config->error.data);
	obx_settings_free(settings);
	return false;
}

void
obx_settings_free(ObxRelaySettings *settings)
{
	if (settings->sink != NULL)
		settings->module->close(settings->sink);
	obx_config_free(settings->config);
	free((char *) settings->name);
	memset(settings, 0, sizeof(*settings));
}
