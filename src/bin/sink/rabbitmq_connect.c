/*
 * Connecting to RabbitMQ, and what it means when that, or a connection, ends.
 */
#include "sink/rabbitmq_connect.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ssl.h>

#include "base/clock.h"
#include "sink/rabbitmq_library.h"

#define FRAME_SIZE 131072

/* ---- how it ends ---- */

void
obx_rabbitmq_end(ObxRabbitmqEnd *end, ObxVerdict verdict, const char *format,...)
{
	va_list		args;

	if (end->is_over)
		return;
	end->is_over = true;
	end->verdict = verdict;
	va_start(args, format);
	vsnprintf(end->why, sizeof(end->why), format, args);
	va_end(args);
}

/* What a person must repair: no right, no such exchange or virtual host. */
static ObxVerdict
verdict_of_code(int code)
{
	return code == AMQP_ACCESS_REFUSED || code == AMQP_NOT_FOUND || code == AMQP_NOT_ALLOWED ||
		code == AMQP_INVALID_PATH || code == AMQP_RESOURCE_LOCKED ? OBX_REFUSED : OBX_LATER;
}

/* "message size 2000 is larger than configured max size 1000" */
static long long
find_most_bytes(const char *text)
{
	static const char words[] = "configured max size ";
	const char *found = strstr(text, words);

	return found != NULL ? strtoll(found + sizeof(words) - 1, NULL, 10) : 0;
}

void
obx_rabbitmq_end_by_close(ObxRabbitmqEnd *end, int code, amqp_bytes_t reason)
{
	if (end->is_over)
		return;
	obx_rabbitmq_end(end, verdict_of_code(code), "%.*s", (int) reason.len, (char *) reason.bytes);
	end->blames = code == AMQP_PRECONDITION_FAILED || code == AMQP_CONTENT_TOO_LARGE;
	end->most_bytes = find_most_bytes(end->why);
}

bool
obx_rabbitmq_end_by_status(ObxRabbitmqEnd *end, const char *what, int status)
{
	if (status == AMQP_STATUS_OK)
		return false;
	obx_rabbitmq_end(end, status == AMQP_STATUS_BROKER_UNSUPPORTED_SASL_METHOD ? OBX_REFUSED : OBX_LATER,
					 "%s: %s", what, amqp_error_string2(status));
	return true;
}

/* Did a step of connecting go wrong? */
static bool
end_by_reply(ObxRabbitmqEnd *end, const char *what, amqp_rpc_reply_t reply)
{
	if (reply.reply_type == AMQP_RESPONSE_NORMAL)
		return false;
	if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		return obx_rabbitmq_end_by_status(end, what, reply.library_error);
	if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
		reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD)
	{
		amqp_connection_close_t *close = reply.reply.decoded;

		obx_rabbitmq_end_by_close(end, close->reply_code, close->reply_text);
	}
	else if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION &&
			 reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD)
	{
		amqp_channel_close_t *close = reply.reply.decoded;

		obx_rabbitmq_end_by_close(end, close->reply_code, close->reply_text);
	}
	else
		obx_rabbitmq_end(end, OBX_LATER, "%s: the broker gave no answer", what);
	return true;
}

/* ---- connecting ---- */

static __thread char certificate_error[200];

/* Called by OpenSSL: it knows what is wrong, which librabbitmq does not tell. */
static int
note_certificate(int is_good, X509_STORE_CTX * context)
{
	if (!is_good)
		snprintf(certificate_error, sizeof(certificate_error), "%s",
				 X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
	return is_good;
}

static bool
prepare_tls(const ObxRabbitmqEndpoint *endpoint, amqp_socket_t * socket, ObxRabbitmqEnd *end)
{
	SSL_CTX    *context = amqp_ssl_socket_get_context(socket);

	certificate_error[0] = '\0';
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, note_certificate);
	amqp_ssl_socket_set_verify_peer(socket, 1);
	amqp_ssl_socket_set_verify_hostname(socket, 1);
	if (endpoint->ca_file == NULL)
		SSL_CTX_set_default_verify_paths(context);
	else if (amqp_ssl_socket_set_cacert(socket, endpoint->ca_file) != AMQP_STATUS_OK)
	{
		obx_rabbitmq_end(end, OBX_REFUSED, "could not read \"%s\"", endpoint->ca_file);
		return false;
	}
	if (endpoint->cert_file != NULL &&
		amqp_ssl_socket_set_key(socket, endpoint->cert_file, endpoint->key_file) != AMQP_STATUS_OK)
	{
		obx_rabbitmq_end(end, OBX_REFUSED, "could not use \"%s\" with \"%s\"",
						 endpoint->cert_file, endpoint->key_file);
		return false;
	}
	return true;
}

static struct timeval
to_timeval(int64_t time)
{
	return (struct timeval)
	{
		.tv_sec = time / OBX_SECOND,.tv_usec = time % OBX_SECOND
	};
}

static bool
open_socket(const ObxRabbitmqEndpoint *endpoint, amqp_connection_state_t connection,
			ObxRabbitmqEnd *end)
{
	struct timeval timeout = to_timeval(endpoint->timeout);
	amqp_socket_t *socket = endpoint->tls ? amqp_ssl_socket_new(connection) :
	amqp_tcp_socket_new(connection);
	int			status;

	if (socket == NULL)
	{
		obx_rabbitmq_end(end, OBX_LATER, "could not make a socket");
		return false;
	}
	if (endpoint->tls && !prepare_tls(endpoint, socket, end))
		return false;
	status = amqp_socket_open_noblock(socket, endpoint->host, endpoint->port, &timeout);
	if (status == AMQP_STATUS_OK)
		return true;
	if (endpoint->tls && certificate_error[0] != '\0')
		obx_rabbitmq_end(end, OBX_REFUSED, "the certificate of %s:%d: %s",
						 endpoint->host, endpoint->port, certificate_error);
	else
		obx_rabbitmq_end(end, status == AMQP_STATUS_SSL_HOSTNAME_VERIFY_FAILED ||
						 status == AMQP_STATUS_SSL_PEER_VERIFY_FAILED ? OBX_REFUSED : OBX_LATER,
						 "could not connect to %s:%d: %s", endpoint->host, endpoint->port,
						 amqp_error_string2(status));
	return false;
}

static amqp_table_entry_t
make_text_entry(const char *name, const char *value)
{
	return (amqp_table_entry_t)
	{
		.key = amqp_cstring_bytes(name),
			.value =
		{
			.kind = AMQP_FIELD_KIND_UTF8,.value =
			{
				.bytes = amqp_cstring_bytes(value)
			}
		}
	};
}

static amqp_table_entry_t
make_capability(const char *name)
{
	return (amqp_table_entry_t)
	{
		.key = amqp_cstring_bytes(name),
			.value =
		{
			.kind = AMQP_FIELD_KIND_BOOLEAN,.value =
			{
				.boolean = 1
			}
		}
	};
}

static amqp_rpc_reply_t
log_in(const ObxRabbitmqEndpoint *endpoint, amqp_connection_state_t connection)
{
	amqp_table_entry_t capabilities[] = {
		make_capability("connection.blocked"), make_capability("publisher_confirms"),
		make_capability("basic.nack")
	};
	amqp_table_entry_t properties[] = {
		make_text_entry("product", "pg_outbox"), make_text_entry("version", OBX_VERSION),
		make_text_entry("connection_name", endpoint->name),
		make_text_entry("capabilities", "")
	};
	amqp_table_t table = {.num_entries = 4,.entries = properties};

	properties[3].value.kind = AMQP_FIELD_KIND_TABLE;
	properties[3].value.value.table = (amqp_table_t)
	{
		.num_entries = 3,.entries = capabilities
	};
	if (endpoint->external)
		return amqp_login_with_properties(connection, endpoint->vhost, 0, FRAME_SIZE,
										  endpoint->heartbeat, &table,
										  AMQP_SASL_METHOD_EXTERNAL, endpoint->user);
	return amqp_login_with_properties(connection, endpoint->vhost, 0, FRAME_SIZE,
									  endpoint->heartbeat, &table, AMQP_SASL_METHOD_PLAIN,
									  endpoint->user, endpoint->own_password != NULL ?
									  endpoint->own_password : endpoint->password);
}

static bool
open_channel(const ObxRabbitmqEndpoint *endpoint, amqp_connection_state_t connection,
			 ObxRabbitmqEnd *end)
{

	if (end_by_reply(end, "could not log in", log_in(endpoint, connection)))
		return false;
	amqp_channel_open(connection, OBX_RABBITMQ_CHANNEL);
	if (end_by_reply(end, "could not open a channel", amqp_get_rpc_reply(connection)))
		return false;
	if (endpoint->exchange != NULL)
	{
		/* passive: is it there? */
		amqp_exchange_declare(connection, OBX_RABBITMQ_CHANNEL, amqp_cstring_bytes(endpoint->exchange),
							  amqp_cstring_bytes("direct"), 1, 0, 0, 0, amqp_empty_table);
		if (end_by_reply(end, "could not find the exchange", amqp_get_rpc_reply(connection)))
			return false;
	}
	amqp_confirm_select(connection, OBX_RABBITMQ_CHANNEL);
	return !end_by_reply(end, "could not ask for confirms", amqp_get_rpc_reply(connection));
}

amqp_connection_state_t
obx_rabbitmq_connect(const ObxRabbitmqEndpoint *endpoint, ObxRabbitmqEnd *end)
{
	struct timeval timeout = to_timeval(endpoint->timeout);
	amqp_connection_state_t connection = amqp_new_connection();

	if (connection == NULL)
	{
		obx_rabbitmq_end(end, OBX_LATER, "out of memory");
		return NULL;
	}
	amqp_set_handshake_timeout(connection, &timeout);
	amqp_set_rpc_timeout(connection, &timeout);
	if (open_socket(endpoint, connection, end))
		open_channel(endpoint, connection, end);
	return connection;
}

void
obx_rabbitmq_endpoint_free(ObxRabbitmqEndpoint *endpoint)
{
	free(endpoint->url);
	free(endpoint->own_password);
	free(endpoint->ca_file);
	free(endpoint->cert_file);
	free(endpoint->key_file);
	free(endpoint->name);
	free(endpoint->exchange);
}
