/*
 * What the tests of the sink "kafka" need of Kafka.
 *
 *   kafka_peer mock COMMANDS     a cluster of librdkafka's own: prints its
 *                                address, obeys lines that are appended to the
 *                                file, and ends with its standard input:
 *                                  topic NAME PARTITIONS
 *                                  fail COUNT CODE     the next answers to Produce
 *                                  down | up
 *   kafka_peer read SERVERS TOPIC [uncommitted]
 *                                prints what is in the topic, to its end: a line
 *                                of partition, key, headers and value, with tabs
 *   kafka_peer topic SERVERS NAME PARTITIONS [OPTION=VALUE]...
 *   kafka_peer fence SERVERS ID  what another producer of that id does
 *   kafka_peer hold SERVERS ID TOPIC
 *                                leaves a transaction open until its input ends
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "kafka_peer: %s: %s\n", what, why);
	exit(1);
}

static rd_kafka_t *
open_handle(rd_kafka_type_t type, const char *const options[][2])
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *handle;
	char		why[300];

	for (int i = 0; options[i][0] != NULL; i++)
		if (rd_kafka_conf_set(conf, options[i][0], options[i][1], why, sizeof(why)) != RD_KAFKA_CONF_OK)
			die(options[i][0], why);
	handle = rd_kafka_new(type, conf, why, sizeof(why));
	if (handle == NULL)
		die("handle", why);
	return handle;
}

static int
input_has_ended(int wait)
{
	struct pollfd input = {.fd = STDIN_FILENO,.events = POLLIN};
	char		c;

	return poll(&input, 1, wait) > 0 && read(STDIN_FILENO, &c, 1) <= 0;
}

/* ---- a cluster ---- */

static void
obey(rd_kafka_mock_cluster_t * cluster, char *line)
{
	char		name[300];
	int			number;
	int			code;

	if (sscanf(line, "topic %299s %d", name, &number) == 2)
		rd_kafka_mock_topic_create(cluster, name, number, 1);
	else if (sscanf(line, "fail %d %d", &number, &code) == 2)
		for (; number > 0; number--)
			rd_kafka_mock_push_request_errors(cluster, 0 /* Produce */ , 1, (rd_kafka_resp_err_t) code);
	else if (strncmp(line, "down", 4) == 0)
		rd_kafka_mock_broker_set_down(cluster, 1);
	else if (strncmp(line, "up", 2) == 0)
		rd_kafka_mock_broker_set_up(cluster, 1);
	else
		die("no command", line);
}

static int
run_mock(const char *path)
{
	static const char *const options[][2] = {{"client.id", "mock"}, {NULL, NULL}};
	rd_kafka_t *handle = open_handle(RD_KAFKA_PRODUCER, options);
	rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(handle, 1);
	FILE	   *commands = fopen(path, "r");
	char	   *line = NULL;
	size_t		size = 0;

	if (commands == NULL)
		die(path, strerror(errno));
	printf("%s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);
	while (!input_has_ended(20))
	{
		while (getline(&line, &size, commands) > 0)
			obey(cluster, line);
		clearerr(commands);
	}
	free(line);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(handle);
	return 0;
}

/* ---- reading ---- */

static void
print_plain(const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		putchar(data[i] == '\t' || data[i] == '\n' ? ' ' : data[i]);
}

static void
print_message(const rd_kafka_message_t * message)
{
	rd_kafka_headers_t *headers = NULL;
	const char *name;
	const void *value;
	size_t		length;

	printf("%d\t", message->partition);
	if (message->key != NULL)
		print_plain(message->key, message->key_len);
	putchar('\t');
	rd_kafka_message_headers(message, &headers);
	for (size_t i = 0; headers != NULL && rd_kafka_header_get_all(headers, i, &name, &value, &length) == 0; i++)
	{
		printf("%s%s=", i > 0 ? ";" : "", name);
		print_plain(value, length);
	}
	putchar('\t');
	if (message->payload != NULL)
		print_plain(message->payload, message->len);
	else
		fputs("(null)", stdout);
	putchar('\n');
}

static int
run_read(const char *servers, const char *topic, int committed)
{
	const char *const options[][2] = {
		{"bootstrap.servers", servers}, {"group.id", "reader"},
		{"enable.partition.eof", "true"}, {"auto.offset.reset", "earliest"},
		{"enable.auto.commit", "false"}, {"check.crcs", "true"},
		{"isolation.level", committed ? "read_committed" : "read_uncommitted"}, {NULL, NULL}
	};
	rd_kafka_t *handle = open_handle(RD_KAFKA_CONSUMER, options);
	rd_kafka_topic_t *of = rd_kafka_topic_new(handle, topic, NULL);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	const struct rd_kafka_metadata *metadata;
	int			open = 0;
	int			tries = 0;

	while (rd_kafka_metadata(handle, 0, of, &metadata, 5000) != 0 || metadata->topics[0].err != 0)
		if (++tries > 20)
			die(topic, "no such topic");
	for (int i = 0; i < metadata->topics[0].partition_cnt; i++, open++)
		rd_kafka_topic_partition_list_add(list, topic, i)->offset = 0;
	rd_kafka_assign(handle, list);
	while (open > 0 && tries < 300)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(handle, 100);

		if (message == NULL)
			tries++;
		else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			open--;
		else if (message->err == 0)
			print_message(message);
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
	fflush(stdout);
	_exit(open > 0);
}

/* ---- others ---- */

static int
run_topic(const char *servers, char **arguments)
{
	const char *const options[][2] = {{"bootstrap.servers", servers}, {NULL, NULL}};
	rd_kafka_t *handle = open_handle(RD_KAFKA_PRODUCER, options);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(handle);
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(arguments[0], atoi(arguments[1]), 1, NULL, 0);
	rd_kafka_event_t *event;
	const		rd_kafka_topic_result_t **results;
	size_t		count;

	for (char **option = arguments + 2; *option != NULL; option++)
	{
		char	   *value = strchr(*option, '=');

		*value = '\0';
		rd_kafka_NewTopic_set_config(topic, *option, value + 1);
	}
	rd_kafka_CreateTopics(handle, &topic, 1, NULL, queue);
	event = rd_kafka_queue_poll(queue, 20000);
	if (event == NULL || rd_kafka_event_error(event) != 0)
		die("topic", event != NULL ? rd_kafka_event_error_string(event) : "no answer");
	results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
	if (rd_kafka_topic_result_error(results[0]) != 0)
		die(arguments[0], rd_kafka_topic_result_error_string(results[0]));
	_exit(0);
}

static int
run_transaction(const char *servers, const char *id, const char *topic)
{
	const char *const options[][2] = {
		{"bootstrap.servers", servers}, {"transactional.id", id}, {NULL, NULL}
	};
	rd_kafka_t *handle = open_handle(RD_KAFKA_PRODUCER, options);
	rd_kafka_error_t *error = rd_kafka_init_transactions(handle, 20000);

	if (error != NULL)
		die(id, rd_kafka_error_string(error));
	if (topic == NULL)
		_exit(0);
	rd_kafka_begin_transaction(handle);
	rd_kafka_producev(handle, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE("open", 4),
					  RD_KAFKA_V_END);
	rd_kafka_flush(handle, 10000);
	printf("open\n");
	fflush(stdout);
	while (!input_has_ended(1000))
		rd_kafka_poll(handle, 0);
	error = rd_kafka_abort_transaction(handle, 5000);
	_exit(error != NULL);
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "mock") == 0)
		return run_mock(argv[2]);
	if (argc >= 4 && strcmp(argv[1], "read") == 0)
		return run_read(argv[2], argv[3], argc == 4);
	if (argc >= 5 && strcmp(argv[1], "topic") == 0)
		return run_topic(argv[2], argv + 3);
	if (argc >= 4 && (strcmp(argv[1], "fence") == 0 || strcmp(argv[1], "hold") == 0))
		return run_transaction(argv[2], argv[3], argc > 4 ? argv[4] : NULL);
	die("usage", "see the source");
}
