/*
 * A connection by AMQP 1.0: looking the host up, a socket, and what qpid-proton
 * makes of the bytes.
 */
#include "sink/amqp_connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <proton/codec.h>
#include <proton/condition.h>
#include <proton/connection.h>
#include <proton/connection_driver.h>
#include <proton/sasl.h>
#include <proton/session.h>
#include <proton/ssl.h>
#include <proton/terminus.h>
#include <proton/transport.h>

#include "base/clock.h"

#define MOST_ROUNDS		50
#define LOOK_AGAIN		(10 * OBX_MILLISECOND)

typedef enum Phase
{
	LOOKING_UP,
	CONNECTING,
	TALKING
} Phase;

/* What the C library's thread writes to: it may outlive the connection. */
typedef struct Lookup
{
	struct gaicb request;
	struct addrinfo hints;
	char		host[256];
	char		port[16];
} Lookup;

struct ObxAmqpConnection
{
	const ObxAmqpEndpoint *endpoint;
	ObxAmqpDeliveryFunction take;
	void	   *context;
	Phase		phase;
	int64_t		deadline;		/* of connecting; OBX_FOREVER once it is done */
	Lookup	   *lookup;
	struct addrinfo *addresses;
	const struct addrinfo *next;	/* to be tried */
	int			socket;			/* -1: none */
	bool		has_driver;
	pn_connection_driver_t driver;
	pn_session_t *session;
	pn_link_t  *link;
	bool		is_attached;
	int64_t		tick_at;
	bool		is_over;
	ObxVerdict	verdict;
	char		why[300];
};

static void end_connection(ObxAmqpConnection *connection, ObxVerdict verdict, const char *format,...)
			__attribute__((format(printf, 3, 4)));

/* The first reason counts. */
static void
end_connection(ObxAmqpConnection *connection, ObxVerdict verdict, const char *format,...)
{
	va_list		args;

	if (connection->is_over)
		return;
	connection->is_over = true;
	connection->verdict = verdict;
	va_start(args, format);
	vsnprintf(connection->why, sizeof(connection->why), format, args);
	va_end(args);
}

ObxVerdict
obx_amqp_verdict(const char *condition, ObxVerdict never)
{
	static const struct
	{
		const char *condition;
		ObxVerdict	verdict;
	}			list[] = {
		{"amqp:unauthorized-access", OBX_REFUSED},
		{"amqp:not-found", OBX_REFUSED},
		{"amqp:not-implemented", OBX_REFUSED},
		{"amqp:link:redirect", OBX_REFUSED},
		{"com.microsoft:auth-failed", OBX_REFUSED},
		{"com.microsoft:entity-disabled", OBX_REFUSED},
		{"amqp:internal-error", OBX_LATER},
		{"amqp:resource-limit-exceeded", OBX_LATER},
		{"amqp:resource-locked", OBX_LATER},
		{"amqp:resource-deleted", OBX_LATER},
		{"amqp:connection:forced", OBX_LATER},
		{"amqp:link:detach-forced", OBX_LATER},
		{"com.microsoft:server-busy", OBX_LATER},
		{"com.microsoft:timeout", OBX_LATER},
		{"com.microsoft:operation-cancelled", OBX_LATER},
		{"com.microsoft:container-close", OBX_LATER}
	};

	for (size_t i = 0; condition != NULL && i < sizeof(list) / sizeof(list[0]); i++)
		if (strcmp(condition, list[i].condition) == 0)
			return list[i].verdict;
	return never;
}

/* The peer ends something, and may say why. */
static void
end_by_condition(ObxAmqpConnection *connection, const char *what, pn_condition_t * condition)
{
	const char *name = pn_condition_is_set(condition) ? pn_condition_get_name(condition) : NULL;
	const char *description = name != NULL ? pn_condition_get_description(condition) : NULL;
	ObxVerdict	verdict = obx_amqp_verdict(name, OBX_LATER);

	/* a link that cannot be had as it is asked for */
	if (name != NULL && strcmp(name, "amqp:not-allowed") == 0)
		verdict = OBX_REFUSED;
	if (description != NULL && strstr(description, "certificate verify failed") != NULL)
		verdict = OBX_REFUSED;
	end_connection(connection, verdict, "%s%s%s%s%s", what, name != NULL ? ": " : "",
				   name != NULL ? name : "", description != NULL ? ": " : "",
				   description != NULL ? description : "");
}

/* ---- what the peer says ---- */

static void
take_attach(ObxAmqpConnection *connection)
{
	/* without a target it is a refusal, and the reason follows */
	if (pn_terminus_get_type(pn_link_remote_target(connection->link)) == PN_UNSPECIFIED)
		return;
	connection->is_attached = true;
	connection->deadline = OBX_FOREVER;
}

static void
take_event(ObxAmqpConnection *connection, pn_event_t * event)
{
	switch (pn_event_type(event))
	{
		case PN_LINK_REMOTE_OPEN:
			if (pn_event_link(event) == connection->link)
				take_attach(connection);
			break;
		case PN_DELIVERY:
			if (pn_delivery_updated(pn_event_delivery(event)))
				connection->take(connection->context, pn_event_delivery(event));
			break;
		case PN_LINK_REMOTE_CLOSE:
		case PN_LINK_REMOTE_DETACH:
			end_by_condition(connection, "the peer has closed the link",
							 pn_link_remote_condition(pn_event_link(event)));
			break;
		case PN_SESSION_REMOTE_CLOSE:
			end_by_condition(connection, "the peer has closed the session",
							 pn_session_remote_condition(pn_event_session(event)));
			break;
		case PN_CONNECTION_REMOTE_CLOSE:
			end_by_condition(connection, "the peer has closed the connection",
							 pn_connection_remote_condition(pn_event_connection(event)));
			break;
		case PN_TRANSPORT_ERROR:
		case PN_TRANSPORT_CLOSED:
			end_by_condition(connection, "the connection is lost",
							 pn_transport_condition(pn_event_transport(event)));
			break;
		default:
			break;
	}
}

static void
take_events(ObxAmqpConnection *connection)
{
	pn_event_t *event;

	while ((event = pn_connection_driver_next_event(&connection->driver)) != NULL)
		take_event(connection, event);
}

/* ---- bytes ---- */

/* Returns whether there was something. */
static bool
read_bytes(ObxAmqpConnection *connection)
{
	pn_rwbytes_t buffer = pn_connection_driver_read_buffer(&connection->driver);
	ssize_t		done;

	if (buffer.size == 0)
		return false;
	done = recv(connection->socket, buffer.start, buffer.size, MSG_DONTWAIT);
	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (done > 0)
		pn_connection_driver_read_done(&connection->driver, done);
	else
	{
		if (done < 0)
			pn_connection_driver_errorf(&connection->driver, "io", "%s", strerror(errno));
		pn_connection_driver_read_close(&connection->driver);
	}
	take_events(connection);
	return done > 0;
}

static bool
write_bytes(ObxAmqpConnection *connection)
{
	pn_bytes_t	buffer = pn_connection_driver_write_buffer(&connection->driver);
	ssize_t		done;

	if (buffer.size == 0)
		return false;
	done = send(connection->socket, buffer.start, buffer.size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (done < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (done > 0)
		pn_connection_driver_write_done(&connection->driver, done);
	else
	{
		pn_connection_driver_errorf(&connection->driver, "io", "%s", strerror(errno));
		pn_connection_driver_close(&connection->driver);
	}
	take_events(connection);
	return done > 0;
}

static void
talk(ObxAmqpConnection *connection)
{
	int64_t		now = obx_now() / OBX_MILLISECOND;
	int64_t		next = pn_transport_tick(connection->driver.transport, now);

	connection->tick_at = next > 0 ? next * OBX_MILLISECOND : OBX_FOREVER;
	take_events(connection);
	for (int i = 0; i < MOST_ROUNDS && !connection->is_over; i++)
	{
		bool		moved = read_bytes(connection);

		if (!write_bytes(connection) && !moved)
			break;
	}
}

/* ---- connecting ---- */

static bool
prepare_tls(ObxAmqpConnection *connection)
{
	const ObxAmqpEndpoint *endpoint = connection->endpoint;
	pn_ssl_domain_t *domain = pn_ssl_domain(PN_SSL_MODE_CLIENT);
	pn_ssl_t   *ssl = pn_ssl(connection->driver.transport);
	bool		good = domain != NULL && ssl != NULL &&
	(endpoint->ca_file == NULL || pn_ssl_domain_set_trusted_ca_db(domain, endpoint->ca_file) == 0) &&
	(endpoint->cert_file == NULL ||
	 pn_ssl_domain_set_credentials(domain, endpoint->cert_file, endpoint->key_file, NULL) == 0) &&
	pn_ssl_domain_set_peer_authentication(domain, PN_SSL_VERIFY_PEER_NAME, NULL) == 0 &&
	pn_ssl_init(ssl, domain, NULL) == 0 && pn_ssl_set_peer_hostname(ssl, endpoint->host) == 0;

	pn_ssl_domain_free(domain);
	if (!good)
		end_connection(connection, OBX_REFUSED, "could not use the certificates of the configuration");
	return good;
}

static void
prepare_sasl(ObxAmqpConnection *connection)
{
	const ObxAmqpEndpoint *endpoint = connection->endpoint;
	pn_sasl_t  *sasl = pn_sasl(connection->driver.transport);

	pn_sasl_allowed_mechs(sasl, endpoint->user != NULL ? "PLAIN" :
						  endpoint->cert_file != NULL ? "EXTERNAL" : "ANONYMOUS");
	/* who uses no TLS has chosen so */
	pn_sasl_set_allow_insecure_mechs(sasl, true);
	if (endpoint->user == NULL)
		return;
	pn_connection_set_user(connection->driver.connection, endpoint->user);
	pn_connection_set_password(connection->driver.connection, endpoint->password);
}

static void
open_link(ObxAmqpConnection *connection)
{
	const ObxAmqpEndpoint *endpoint = connection->endpoint;
	char		name[256];

	snprintf(name, sizeof(name), "pg_outbox.%.100s.%d", endpoint->subscription, (int) getpid());
	pn_connection_set_container(connection->driver.connection, name);
	pn_connection_set_hostname(connection->driver.connection,
							   endpoint->hostname != NULL ? endpoint->hostname : endpoint->host);
	connection->session = pn_session(connection->driver.connection);
	connection->link = pn_sender(connection->session, name);
	pn_terminus_set_address(pn_link_target(connection->link), endpoint->address);
	pn_terminus_set_address(pn_link_source(connection->link), name);
	pn_link_set_snd_settle_mode(connection->link, PN_SND_UNSETTLED);
	pn_link_set_rcv_settle_mode(connection->link, PN_RCV_FIRST);
	pn_connection_open(connection->driver.connection);
	pn_session_open(connection->session);
	pn_link_open(connection->link);
}

static void
begin_to_talk(ObxAmqpConnection *connection)
{
	connection->phase = TALKING;
	if (pn_connection_driver_init(&connection->driver, NULL, NULL) != 0)
	{
		end_connection(connection, OBX_LATER, "out of memory");
		return;
	}
	connection->has_driver = true;
	pn_transport_set_idle_timeout(connection->driver.transport,
								  2 * connection->endpoint->heartbeat / OBX_MILLISECOND);
	if (connection->endpoint->tls && !prepare_tls(connection))
		return;
	prepare_sasl(connection);
	open_link(connection);
	pn_connection_driver_bind(&connection->driver);
	talk(connection);
}

static void
close_socket(ObxAmqpConnection *connection)
{
	if (connection->socket >= 0)
		close(connection->socket);
	connection->socket = -1;
}

/* The next of the host's addresses, of which one may answer. */
static void
try_next(ObxAmqpConnection *connection, int error)
{
	const ObxAmqpEndpoint *endpoint = connection->endpoint;

	for (; connection->next != NULL; connection->next = connection->next->ai_next)
	{
		const struct addrinfo *address = connection->next;
		int			one = 1;

		close_socket(connection);
		connection->socket = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (connection->socket < 0)
			error = errno;
		else
		{
			setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			if (connect(connection->socket, address->ai_addr, address->ai_addrlen) == 0 ||
				errno == EINPROGRESS)
			{
				connection->next = address->ai_next;
				return;
			}
			error = errno;
		}
	}
	end_connection(connection, OBX_LATER, "could not connect to %s:%s: %s", endpoint->host,
				   endpoint->port, strerror(error));
}

static void
go_on_connecting(ObxAmqpConnection *connection)
{
	struct pollfd ready = {.fd = connection->socket,.events = POLLOUT};
	int			error = 0;
	socklen_t	size = sizeof(error);

	if (poll(&ready, 1, 0) <= 0)
		return;
	if (getsockopt(connection->socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		error = errno;
	if (error == 0)
		begin_to_talk(connection);
	else
		try_next(connection, error);
}

static void
go_on_looking_up(ObxAmqpConnection *connection)
{
	int			status = gai_error(&connection->lookup->request);

	if (status == EAI_INPROGRESS)
		return;
	if (status != 0)
	{
		end_connection(connection, OBX_LATER, "could not look up the host \"%s\": %s",
					   connection->endpoint->host, gai_strerror(status));
		return;
	}
	connection->addresses = connection->lookup->request.ar_result;
	connection->next = connection->addresses;
	connection->phase = CONNECTING;
	try_next(connection, 0);
}

ObxAmqpConnection *
obx_amqp_connection_new(const ObxAmqpEndpoint *endpoint, ObxAmqpDeliveryFunction take, void *context)
{
	ObxAmqpConnection *connection = obx_allocate(sizeof(ObxAmqpConnection));
	Lookup	   *lookup = obx_allocate(sizeof(Lookup));
	struct gaicb *list[] = {&lookup->request};

	connection->endpoint = endpoint;
	connection->take = take;
	connection->context = context;
	connection->socket = -1;
	connection->lookup = lookup;
	connection->deadline = obx_now() + endpoint->timeout;
	connection->tick_at = OBX_FOREVER;
	snprintf(lookup->host, sizeof(lookup->host), "%s", endpoint->host);
	snprintf(lookup->port, sizeof(lookup->port), "%s", endpoint->port);
	lookup->hints.ai_socktype = SOCK_STREAM;
	lookup->request.ar_name = lookup->host;
	lookup->request.ar_service = lookup->port;
	lookup->request.ar_request = &lookup->hints;
	if (getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) != 0)
		end_connection(connection, OBX_LATER, "could not look up the host \"%s\"", endpoint->host);
	return connection;
}

/* ---- going on ---- */

void
obx_amqp_connection_work(ObxAmqpConnection *connection)
{
	if (connection->is_over)
		return;
	if (connection->phase == LOOKING_UP)
		go_on_looking_up(connection);
	else if (connection->phase == CONNECTING)
		go_on_connecting(connection);
	else
		talk(connection);
	if (obx_now() > connection->deadline)
		end_connection(connection, OBX_LATER, "%s:%s does not answer", connection->endpoint->host,
					   connection->endpoint->port);
}

int
obx_amqp_connection_wait_for(ObxAmqpConnection *connection, struct pollfd *descriptor, int64_t * until)
{
	int64_t		at = connection->deadline < connection->tick_at ? connection->deadline : connection->tick_at;

	/* a lookup has no descriptor */
	if (connection->is_over)
		at = 0;
	else if (connection->phase == LOOKING_UP)
		at = obx_now() + LOOK_AGAIN;
	if (at < *until)
		*until = at;
	if (connection->socket < 0 || connection->is_over)
		return 0;
	*descriptor = (struct pollfd)
	{
		.fd = connection->socket,.events = POLLIN
	};
	if (connection->phase == CONNECTING)
		descriptor->events = POLLOUT;
	else if (pn_connection_driver_write_buffer(&connection->driver).size > 0)
		descriptor->events = POLLIN | POLLOUT;
	return 1;
}

pn_link_t *
obx_amqp_connection_link(const ObxAmqpConnection *connection)
{
	return connection->is_attached && !connection->is_over ? connection->link : NULL;
}

size_t
obx_amqp_connection_unsent(const ObxAmqpConnection *connection)
{
	return pn_session_outgoing_bytes(connection->session);
}

bool
obx_amqp_connection_is_to(const ObxAmqpConnection *connection, const char *product)
{
	pn_data_t  *properties = pn_connection_remote_properties(connection->driver.connection);
	size_t		length = strlen(product);
	bool		found = false;

	if (properties == NULL)
		return false;
	pn_data_rewind(properties);
	if (!pn_data_next(properties) || pn_data_type(properties) != PN_MAP)
		return false;
	pn_data_enter(properties);
	while (pn_data_next(properties) && !found)
	{
		pn_bytes_t	name = pn_data_type(properties) == PN_SYMBOL ? pn_data_get_symbol(properties) :
		pn_bytes(0, NULL);
		pn_bytes_t	value;

		if (!pn_data_next(properties))
			break;
		value = pn_data_type(properties) == PN_STRING ? pn_data_get_string(properties) : pn_bytes(0, NULL);
		found = name.size == 7 && memcmp(name.start, "product", 7) == 0 && value.size == length &&
			memcmp(value.start, product, length) == 0;
	}
	pn_data_rewind(properties);
	return found;
}

bool
obx_amqp_connection_is_over(const ObxAmqpConnection *connection, ObxVerdict *verdict, const char **why)
{
	*verdict = connection->verdict;
	*why = connection->why;
	return connection->is_over;
}

void
obx_amqp_connection_free(ObxAmqpConnection *connection)
{
	bool		looking = connection->phase == LOOKING_UP &&
	gai_error(&connection->lookup->request) == EAI_INPROGRESS &&
	gai_cancel(&connection->lookup->request) != EAI_CANCELED;

	if (connection->has_driver)
	{
		if (!connection->is_over)
		{
			pn_connection_close(connection->driver.connection);
			talk(connection);
		}
		pn_connection_driver_destroy(&connection->driver);
	}
	close_socket(connection);
	/* a lookup under way that cannot be called off is left alone */
	if (!looking)
	{
		if (connection->lookup->request.ar_result != NULL)
			freeaddrinfo(connection->lookup->request.ar_result);
		free(connection->lookup);
	}
	free(connection);
}
