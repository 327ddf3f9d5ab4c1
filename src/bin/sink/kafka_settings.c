/*
 * What a configuration says of the sink "kafka".
 */
#include "sink/kafka_settings.h"

#include <stdlib.h>
#include <string.h>

/* What the relay has to decide. */
static bool
is_ours(const char *name)
{
	static const char *const names[] = {
		"transactional.id", "enable.idempotence", "enable.gapless.guarantee", "isolation.level",
		"delivery.report.only.error", "enable.auto.commit", "group.id", "acks",
		"request.required.acks"
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static bool
is_secret(const char *name)
{
	return strstr(name, "password") != NULL || strstr(name, "secret") != NULL ||
		strstr(name, "pem") != NULL || strstr(name, "token") != NULL ||
		strstr(name, "oauthbearer.config") != NULL;
}

static void
set_defaults(ObxKafkaSettings *settings)
{
	static const char *const options[][2] = {
		{"client.id", "pg_outbox"},
		{"log.configuration.warnings", "false"},
		{"enable.idempotence", "true"},
		/* else the kernel waits 40 ms for more at each commit */
		{"socket.nagle.disable", "true"},
		/* as the clients in Java choose */
		{"partitioner", "murmur2_random"},
		{"queue.buffering.max.kbytes", "65536"},
		{"queue.buffering.max.messages", "100000"},
		{"linger.ms", "1"},
		{"topic.metadata.propagation.max.ms", "5000"},
		{"reconnect.backoff.max.ms", "2000"}
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		rd_kafka_conf_set(settings->conf, options[i][0], options[i][1], NULL, 0);
	/* one that was left is in the way of readers for so long */
	if (settings->is_transactional)
		rd_kafka_conf_set(settings->conf, "transaction.timeout.ms", "20000", NULL, 0);
	/* to queue is not to fail */
	else
		rd_kafka_conf_set(settings->conf, "message.timeout.ms", "0", NULL, 0);
}

/* The section is passed on as it is. */
static void
read_options(ObxKafkaSettings *settings, ObxConfig *config)
{
	char		why[300];
	bool		has_servers = false;

	for (int i = 0; i < config->count; i++)
	{
		const ObxConfigEntry *entry = &config->entries[i];

		if (strcmp(entry->section, "kafka") != 0)
			continue;
		has_servers = has_servers || strcmp(entry->name, "bootstrap.servers") == 0 ||
			strcmp(entry->name, "metadata.broker.list") == 0;
		if (is_ours(entry->name))
			obx_config_fail(config, "kafka", entry->name, "\"%s\" is the relay's to set", entry->name);
		else if (rd_kafka_conf_set(settings->conf, entry->name, entry->value, why, sizeof(why)) !=
				 RD_KAFKA_CONF_OK)
			obx_config_fail(config, "kafka", entry->name, "\"%s\": %s", entry->name,
							is_secret(entry->name) ? "librdkafka does not take it" : why);
	}
	obx_config_use_section(config, "kafka");
	if (!has_servers)
		obx_config_fail(config, "", "sink", "\"bootstrap.servers\" must be set in the section \"kafka\"");
}

bool
obx_kafka_settings_read(ObxConfig *config, ObxKafkaSettings *settings)
{
	const char *format = obx_config_get(config, "", "format");
	const char *progress_topic = obx_config_get(config, "", "progress_topic");

	settings->is_transactional = strcmp(obx_config_choice(config, "delivery", "exactly-once|at-least-once",
														  "exactly-once"), "exactly-once") == 0;
	settings->tombstones = strcmp(obx_config_choice(config, "tombstones", "off|deletes", "off"), "off") != 0;
	settings->takes_parts = format == NULL || strcmp(format, "cloudevents") == 0;
	settings->progress_topic = obx_copy_string(progress_topic != NULL ? progress_topic : "pg_outbox.progress");
	if (obx_config_get(config, "", "topic") == NULL)
		obx_config_fail(config, "", "sink", "\"topic\" must be set, such as 'shop.{type}'");
	settings->topic = obx_template_read(config, "", "topic", "");
	settings->key = obx_template_read(config, "", "key", "{key}");
	settings->conf = rd_kafka_conf_new();
	set_defaults(settings);
	read_options(settings, config);
	if (config->error.length == 0)
		return true;
	obx_kafka_settings_free(settings);
	return false;
}

void
obx_kafka_settings_free(ObxKafkaSettings *settings)
{
	if (settings->conf != NULL)
		rd_kafka_conf_destroy(settings->conf);
	obx_template_free(settings->topic);
	obx_template_free(settings->key);
	free(settings->progress_topic);
	memset(settings, 0, sizeof(*settings));
}
