/*
 * For tests: takes all messages of a queue, and writes a line for each, whose
 * fields stand between tabs: message-id, correlation-id, type, timestamp,
 * delivery mode, content type, exchange, routing key, body, and headers as
 * NAME=VALUE.
 *
 *     rabbitmq_drain URL QUEUE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_tcp_socket.h>
#endif

static void
require(int good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "could not %s\n", what);
	exit(1);
}

static void
put(amqp_bytes_t bytes)
{
	printf("%.*s\t", (int) bytes.len, (char *) bytes.bytes);
}

static void
put_message(const amqp_basic_get_ok_t * method, const amqp_message_t * message)
{
	const		amqp_basic_properties_t *properties = &message->properties;

	put(properties->message_id);
	put(properties->_flags & AMQP_BASIC_CORRELATION_ID_FLAG ? properties->correlation_id : amqp_empty_bytes);
	put(properties->_flags & AMQP_BASIC_TYPE_FLAG ? properties->type : amqp_empty_bytes);
	printf("%llu\t%d\t", (unsigned long long) properties->timestamp, properties->delivery_mode);
	put(properties->content_type);
	put(method->exchange);
	put(method->routing_key);
	printf("%.*s", (int) message->body.len, (char *) message->body.bytes);
	for (int i = 0; properties->_flags & AMQP_BASIC_HEADERS_FLAG && i < properties->headers.num_entries; i++)
	{
		const		amqp_table_entry_t *header = &properties->headers.entries[i];

		printf("\t%.*s=%.*s", (int) header->key.len, (char *) header->key.bytes,
			   (int) header->value.value.bytes.len, (char *) header->value.value.bytes.bytes);
	}
	putchar('\n');
}

int
main(int argc, char **argv)
{
	amqp_connection_state_t connection = amqp_new_connection();
	struct amqp_connection_info info;
	amqp_socket_t *socket = amqp_tcp_socket_new(connection);

	require(argc == 3 && amqp_parse_url(argv[1], &info) == 0, "read the URL");
	require(amqp_socket_open(socket, info.host, info.port) == 0, "connect");
	require(amqp_login(connection, info.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN,
					   info.user, info.password).reply_type == AMQP_RESPONSE_NORMAL, "log in");
	amqp_channel_open(connection, 1);
	require(amqp_get_rpc_reply(connection).reply_type == AMQP_RESPONSE_NORMAL, "open a channel");
	for (;;)
	{
		amqp_rpc_reply_t reply = amqp_basic_get(connection, 1, amqp_cstring_bytes(argv[2]), 1);
		amqp_message_t message;

		require(reply.reply_type == AMQP_RESPONSE_NORMAL, "get a message");
		if (reply.reply.id == AMQP_BASIC_GET_EMPTY_METHOD)
			break;
		require(amqp_read_message(connection, 1, &message, 0).reply_type == AMQP_RESPONSE_NORMAL, "read a message");
		put_message(reply.reply.decoded, &message);
		amqp_destroy_message(&message);
		amqp_maybe_release_buffers(connection);
	}
	amqp_connection_close(connection, AMQP_REPLY_SUCCESS);
	amqp_destroy_connection(connection);
	return 0;
}
