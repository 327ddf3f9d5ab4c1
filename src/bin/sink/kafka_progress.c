/*
 * The record of progress in Kafka.
 */
#include "sink/kafka_progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define ANSWER_WAIT		10000	/* milliseconds */
#define FIRST_STRETCH	1000	/* records that are read first, from the end */

static bool
fail(ObxKafkaProgress *progress, rd_kafka_resp_err_t * error, rd_kafka_resp_err_t code,
	 const char *why)
{
	*error = code;
	snprintf(progress->why, sizeof(progress->why), "topic \"%s\" for the progress: %s",
			 progress->topic, why);
	return false;
}

/* ---- the topic ---- */

static void
set_topic_options(rd_kafka_NewTopic_t * topic)
{
	/* what a new owner reads is short if old records go soon */
	static const char *const options[][2] = {
		{"cleanup.policy", "compact"},
		{"min.cleanable.dirty.ratio", "0.1"},
		{"segment.bytes", "33554432"},
		{"segment.ms", "86400000"}
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		rd_kafka_NewTopic_set_config(topic, options[i][0], options[i][1]);
}

/* What goes wrong is appended to *why. */
static void
make_topic(ObxKafkaProgress *progress, ObxText *why)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(progress->producer);
	rd_kafka_NewTopic_t *topic;
	rd_kafka_event_t *event;
	const		rd_kafka_topic_result_t **results;
	size_t		count;

	topic = rd_kafka_NewTopic_new(progress->topic, 1, -1, NULL, 0);
	set_topic_options(topic);
	rd_kafka_CreateTopics(progress->producer, &topic, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, ANSWER_WAIT);
	if (event == NULL)
		obx_text_append_string(why, "no answer");
	else if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
		obx_text_append_string(why, rd_kafka_event_error_string(event));
	else
	{
		results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event),
													  &count);
		if (count == 1 && rd_kafka_topic_result_error(results[0]) != RD_KAFKA_RESP_ERR_NO_ERROR &&
			rd_kafka_topic_result_error(results[0]) != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			obx_text_append_string(why, rd_kafka_topic_result_error_string(results[0]));
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_NewTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
}

/*
 * Looks at all topics, for to ask for one that is missing may make it, and not
 * as it must be.  *partitions is 0 if it is missing.
 */
static bool
find_topic(ObxKafkaProgress *progress, int *partitions, bool *has_controller,
		   rd_kafka_resp_err_t * error)
{
	const struct rd_kafka_metadata *metadata = NULL;
	int			controller;

	*partitions = 0;
	*has_controller = false;
	*error = rd_kafka_metadata(progress->producer, 1, NULL, &metadata, ANSWER_WAIT);
	if (*error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return fail(progress, error, *error, rd_kafka_err2str(*error));
	controller = rd_kafka_controllerid(progress->producer, 0);
	for (int i = 0; i < metadata->broker_cnt; i++)
		*has_controller = *has_controller || metadata->brokers[i].id == controller;
	for (int i = 0; i < metadata->topic_cnt; i++)
		if (strcmp(metadata->topics[i].topic, progress->topic) == 0)
			*partitions = metadata->topics[i].partition_cnt;
	rd_kafka_metadata_destroy(metadata);
	return true;
}

/* It takes a moment until a new topic has a leader. */
static bool
require_topic(ObxKafkaProgress *progress, bool *has_controller, rd_kafka_resp_err_t * error)
{
	ObxText		could_not;
	char text[	300];
	int			partitions;

	if (!find_topic(progress, &partitions, has_controller, error))
		return false;
	obx_text_init(&could_not);
	if (partitions == 0)
	{
		make_topic(progress, &could_not);
		for (int i = 0; i < 20 && partitions == 0 && could_not.length == 0; i++)
		{
			usleep(i * 10000);
			if (!find_topic(progress, &partitions, has_controller, error))
				break;
		}
	}
	snprintf(text, sizeof(text), "there is none, and it could not be made: %s", could_not.data);
	obx_text_free(&could_not);
	if (partitions == 1)
		return true;
	if (partitions > 1)
		snprintf(text, sizeof(text), "it must have one partition, and has %d", partitions);
	return fail(progress, error, RD_KAFKA_RESP_ERR__INVALID_ARG, text);
}

/* The policy that the topic has; "" if that is not told. */
static void
find_policy(ObxKafkaProgress *progress, char *policy, size_t size)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(progress->producer);
	rd_kafka_ConfigResource_t *resource;
	const		rd_kafka_ConfigResource_t **found;
	const		rd_kafka_ConfigEntry_t **entries = NULL;
	rd_kafka_event_t *event;
	size_t		count = 0;

	policy[0] = '\0';
	resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, progress->topic);
	rd_kafka_DescribeConfigs(progress->producer, &resource, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, ANSWER_WAIT);
	if (event != NULL && rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		found = rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event),
														  &count);
		if (count == 1)
			entries = rd_kafka_ConfigResource_configs(found[0], &count);
	}
	for (size_t i = 0; entries != NULL && i < count; i++)
		if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), "cleanup.policy") == 0 &&
			rd_kafka_ConfigEntry_value(entries[i]) != NULL)
			snprintf(policy, size, "%s", rd_kafka_ConfigEntry_value(entries[i]));
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_ConfigResource_destroy(resource);
	rd_kafka_queue_destroy(queue);
}

bool
obx_kafka_progress_prepare(ObxKafkaProgress *progress, rd_kafka_resp_err_t * error)
{
	char		policy[100] = "";
	bool		has_controller;

	if (!require_topic(progress, &has_controller, error))
		return false;
	/* which would be asked for it */
	if (has_controller)
		find_policy(progress, policy, sizeof(policy));
	if (policy[0] != '\0' && (strstr(policy, "compact") == NULL || strstr(policy, "delete") != NULL))
		return fail(progress, error, RD_KAFKA_RESP_ERR__INVALID_ARG,
					"its cleanup.policy must be \"compact\": else it is forgotten");
	return true;
}

/* ---- reading ---- */

static rd_kafka_t *
open_reader(ObxKafkaProgress *progress, rd_kafka_resp_err_t * error)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(progress->conf);
	rd_kafka_t *reader;
	char		why[200];

	rd_kafka_conf_set(conf, "group.id", "pg_outbox", NULL, 0);
	rd_kafka_conf_set(conf, "enable.auto.commit", "false", NULL, 0);
	rd_kafka_conf_set(conf, "enable.auto.offset.store", "false", NULL, 0);
	rd_kafka_conf_set(conf, "enable.partition.eof", "true", NULL, 0);
	rd_kafka_conf_set(conf, "isolation.level", "read_committed", NULL, 0);
	rd_kafka_conf_set(conf, "auto.offset.reset", "earliest", NULL, 0);
	reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof(why));
	if (reader != NULL)
	{
		rd_kafka_poll_set_consumer(reader);
		return reader;
	}
	rd_kafka_conf_destroy(conf);
	fail(progress, error, RD_KAFKA_RESP_ERR__INVALID_ARG, why);
	return NULL;
}

static void
assign(rd_kafka_t * reader, const char *topic, int64_t from)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_topic_partition_list_add(list, topic, 0)->offset = from;
	rd_kafka_assign(reader, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/*
 * Reads from there to the end, as it was when nobody else could write for our
 * key any more.  Others may have transactions open before that: their end is
 * waited for.
 */
static bool
read_stretch(ObxKafkaProgress *progress, rd_kafka_t * reader, int64_t from, int64_t end,
			 char **record, rd_kafka_resp_err_t * error)
{
	bool		reached = from >= end;

	assign(reader, progress->topic, from);
	while (!reached)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(reader, 200);

		if (*progress->give_up || obx_now() > progress->until)
		{
			if (message != NULL)
				rd_kafka_message_destroy(message);
			return fail(progress, error, RD_KAFKA_RESP_ERR__TIMED_OUT,
						"it could not be read to its end; somebody may have a transaction open in it");
		}
		if (message == NULL)
			continue;
		if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			reached = message->offset >= end;
		else if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			*error = message->err;
			fail(progress, error, message->err, rd_kafka_err2str(message->err));
			rd_kafka_message_destroy(message);
			return false;
		}
		else
		{
			if (message->payload != NULL && message->key_len == strlen(progress->key) &&
				memcmp(message->key, progress->key, message->key_len) == 0)
			{
				free(*record);
				*record = obx_allocate(message->len + 1);
				memcpy(*record, message->payload, message->len);
			}
			reached = message->offset + 1 >= end;
		}
		rd_kafka_message_destroy(message);
	}
	return true;
}

bool
obx_kafka_progress_read(ObxKafkaProgress *progress, char **record, rd_kafka_resp_err_t * error)
{
	int64_t		first;
	int64_t		end;
	int64_t		from;
	rd_kafka_t *reader;
	bool		good;

	*record = NULL;
	*error = rd_kafka_query_watermark_offsets(progress->producer, progress->topic, 0, &first, &end,
											  ANSWER_WAIT);
	if (*error != RD_KAFKA_RESP_ERR_NO_ERROR)
		return fail(progress, error, *error, rd_kafka_err2str(*error));
	reader = open_reader(progress, error);
	if (reader == NULL)
		return false;
	/* the newest record is likely to be near the end */
	from = end;
	do
	{
		int64_t		stretch = end - from > 0 ? 20 * (end - from) : FIRST_STRETCH;

		from = end - stretch > first ? end - stretch : first;
		good = read_stretch(progress, reader, from, end, record, error);
	} while (good && *record == NULL && from > first);
	rd_kafka_consumer_close(reader);
	rd_kafka_destroy(reader);
	if (good)
		return true;
	free(*record);
	*record = NULL;
	return false;
}
