/*
 * A peer for tests, by AMQP 1.0: takes what is sent to any address, but for
 * "nowhere", and writes a line for each message that it accepts, whose fields
 * stand between tabs: message-id, group-id, correlation-id, subject, content
 * type, creation time, whether it is durable, body, and application properties
 * as NAME=VALUE.
 *
 *     amqp_peer HOST:PORT OUT MOOD [CERTIFICATE KEY]
 *
 * By its subject a message is not accepted: "Reject", "Undeliverable" for ever;
 * "Busy", "Release", "Modify" at the first time that its id arrives.
 *
 * The file MOOD has numbers, which are read again all the time: how much credit
 * there is at once, and how many messages to take before the connection is cut
 * (0: all).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <proton/codec.h>
#include <proton/condition.h>
#include <proton/connection.h>
#include <proton/delivery.h>
#include <proton/disposition.h>
#include <proton/event.h>
#include <proton/link.h>
#include <proton/listener.h>
#include <proton/message.h>
#include <proton/proactor.h>
#include <proton/sasl.h>
#include <proton/session.h>
#include <proton/ssl.h>
#include <proton/terminus.h>
#include <proton/transport.h>

#define MOST_MESSAGE	100000
#define MOST_SEEN		1000

static FILE * out;
static const char *mood;
static int	credit;
static int	cut;
static int	taken;				/* since the last cut */
static pn_link_t * current;
static pn_ssl_domain_t * domain;
static char seen[MOST_SEEN][64];
static int	nseen;

static void
read_mood(void)
{
	FILE	   *file = fopen(mood, "r");

	if (file != NULL && fscanf(file, "%d %d", &credit, &cut) < 1)
		credit = 0;
	if (file != NULL)
		fclose(file);
}

static int
is_new(const char *id)
{
	for (int i = 0; i < nseen; i++)
		if (strcmp(seen[i], id) == 0)
			return 0;
	snprintf(seen[nseen++ % MOST_SEEN], 64, "%s", id);
	return 1;
}

static void
put(pn_bytes_t bytes, char end)
{
	fprintf(out, "%.*s%c", (int) bytes.size, bytes.start != NULL ? bytes.start : "", end);
}

static pn_bytes_t
to_bytes(const char *string)
{
	return string != NULL ? pn_bytes(strlen(string), string) : pn_bytes(0, NULL);
}

static void
put_message(pn_message_t * message)
{
	pn_data_t  *properties = pn_message_properties(message);
	pn_data_t  *body = pn_message_body(message);

	put(pn_message_get_id(message).u.as_bytes, '\t');
	put(to_bytes(pn_message_get_group_id(message)), '\t');
	put(pn_message_get_correlation_id(message).type == PN_STRING ?
		pn_message_get_correlation_id(message).u.as_bytes : pn_bytes(0, NULL), '\t');
	put(to_bytes(pn_message_get_subject(message)), '\t');
	put(to_bytes(pn_message_get_content_type(message)), '\t');
	fprintf(out, "%lld\t%d\t", (long long) pn_message_get_creation_time(message), pn_message_is_durable(message));
	pn_data_next(body);
	put(pn_message_is_inferred(message) ? pn_data_get_binary(body) : to_bytes("no data section"), '\t');
	pn_data_next(properties);
	pn_data_enter(properties);
	while (pn_data_next(properties))
	{
		put(pn_data_get_string(properties), '=');
		pn_data_next(properties);
		put(pn_data_get_string(properties), '\t');
	}
	fputc('\n', out);
	fflush(out);
}

static void
answer(pn_delivery_t * delivery, pn_message_t * message)
{
	const char *subject = pn_message_get_subject(message);
	pn_disposition_t *local = pn_delivery_local(delivery);
	pn_bytes_t	bytes = pn_message_get_id(message).u.as_bytes;
	char		id[64];
	uint64_t	state = PN_ACCEPTED;

	snprintf(id, sizeof(id), "%.*s", (int) bytes.size, bytes.start);
	if (strcmp(subject, "Reject") == 0)
	{
		state = PN_REJECTED;
		pn_condition_set_name(pn_disposition_condition(local), "test:odd");
		pn_condition_set_description(pn_disposition_condition(local), "it is odd");
	}
	else if (strcmp(subject, "Undeliverable") == 0)
	{
		state = PN_MODIFIED;
		pn_disposition_set_undeliverable(local, true);
	}
	else if (strcmp(subject, "Busy") == 0 && is_new(id))
	{
		state = PN_REJECTED;
		pn_condition_set_name(pn_disposition_condition(local), "com.microsoft:server-busy");
	}
	else if (strcmp(subject, "Release") == 0 && is_new(id))
		state = PN_RELEASED;
	else if (strcmp(subject, "Modify") == 0 && is_new(id))
		state = PN_MODIFIED;
	if (state == PN_ACCEPTED)
		put_message(message);
	pn_delivery_update(delivery, state);
	pn_delivery_settle(delivery);
}

static void
take_delivery(pn_delivery_t * delivery)
{
	static char bytes[2 * MOST_MESSAGE];
	pn_link_t  *link = pn_delivery_link(delivery);
	pn_message_t *message = pn_message();
	size_t		size = pn_delivery_pending(delivery);

	if (!pn_delivery_readable(delivery) || pn_delivery_partial(delivery) || size > sizeof(bytes))
		return;
	pn_link_recv(link, bytes, size);
	pn_link_advance(link);
	if (pn_message_decode(message, bytes, size) != 0)
		exit(2);
	answer(delivery, message);
	pn_message_free(message);
	taken++;
}

static void
grant(pn_link_t * link)
{
	read_mood();
	if (pn_link_credit(link) < credit)
		pn_link_flow(link, credit - pn_link_credit(link));
	if (cut == 0 || taken < cut)
		return;
	taken = 0;
	pn_condition_set_name(pn_connection_condition(pn_session_connection(pn_link_session(link))), "amqp:connection:forced");
	pn_connection_close(pn_session_connection(pn_link_session(link)));
}

static void
take_link(pn_link_t * link)
{
	const char *address = pn_terminus_get_address(pn_link_remote_target(link));

	if (address != NULL && strcmp(address, "nowhere") == 0)
	{
		pn_link_open(link);
		pn_condition_set_name(pn_link_condition(link), "amqp:not-found");
		pn_condition_set_description(pn_link_condition(link), "there is no such address");
		pn_link_close(link);
		return;
	}
	pn_terminus_copy(pn_link_target(link), pn_link_remote_target(link));
	pn_link_set_max_message_size(link, MOST_MESSAGE);
	pn_link_open(link);
	current = link;
	grant(link);
}

static void
accept_connection(pn_listener_t * listener)
{
	pn_transport_t *transport = pn_transport();

	pn_transport_set_server(transport);
	if (domain != NULL)
		pn_ssl_init(pn_ssl(transport), domain, NULL);
	pn_sasl_allowed_mechs(pn_sasl(transport), "ANONYMOUS");
	pn_listener_accept2(listener, NULL, transport);
}

static void
take_event(pn_event_t * event)
{
	switch (pn_event_type(event))
	{
		case PN_LISTENER_ACCEPT:
			accept_connection(pn_event_listener(event));
			break;
		case PN_LISTENER_CLOSE:
			exit(1);
		case PN_CONNECTION_REMOTE_OPEN:
			pn_connection_open(pn_event_connection(event));
			break;
		case PN_SESSION_REMOTE_OPEN:
			pn_session_open(pn_event_session(event));
			break;
		case PN_LINK_REMOTE_OPEN:
			take_link(pn_event_link(event));
			break;
		case PN_DELIVERY:
			take_delivery(pn_event_delivery(event));
			if (current != NULL)
				grant(current);
			break;
		case PN_CONNECTION_WAKE:
			if (current != NULL)
				grant(current);
			break;
		case PN_CONNECTION_REMOTE_CLOSE:
			pn_connection_close(pn_event_connection(event));
			break;
		case PN_TRANSPORT_CLOSED:
			if (current != NULL && pn_session_connection(pn_link_session(current)) == pn_event_connection(event))
				current = NULL;
			break;
		case PN_PROACTOR_TIMEOUT:
			if (current != NULL)
				pn_connection_wake(pn_session_connection(pn_link_session(current)));
			pn_proactor_set_timeout(pn_event_proactor(event), 100);
			break;
		default:
			break;
	}
}

int
main(int argc, char **argv)
{
	pn_proactor_t *proactor = pn_proactor();

	if (argc < 4 || (out = fopen(argv[2], "a")) == NULL)
		return 1;
	mood = argv[3];
	if (argc > 5)
	{
		domain = pn_ssl_domain(PN_SSL_MODE_SERVER);
		pn_ssl_domain_set_credentials(domain, argv[4], argv[5], NULL);
	}
	pn_proactor_listen(proactor, pn_listener(), argv[1], 16);
	pn_proactor_set_timeout(proactor, 100);
	for (;;)
	{
		pn_event_batch_t *batch = pn_proactor_wait(proactor);
		pn_event_t *event;

		while ((event = pn_event_batch_next(batch)) != NULL)
			take_event(event);
		pn_proactor_done(proactor, batch);
	}
}
