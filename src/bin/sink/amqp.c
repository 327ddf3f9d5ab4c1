/*
 * The sink "amqp": AMQP 1.0, by qpid-proton.
 *
 * An event is confirmed when the peer has accepted its message.  Of a group,
 * that is of a key, one message is under way at a time, so that order holds even
 * if the peer refuses one; this can be switched off.  Nothing is sent that the
 * peer has given no credit for.
 */
#include "sink/sink.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <proton/condition.h>
#include <proton/delivery.h>
#include <proton/disposition.h>

#include "base/clock.h"
#include "sink/amqp_connection.h"
#include "sink/amqp_endpoint.h"
#include "sink/amqp_message.h"

#define SECTION				OBX_AMQP_SECTION
#define MOST_UNSETTLED		100000
#define MOST_UNSENT			(4 * 1024 * 1024)	/* bytes */
#define LONGEST_WITHOUT		(3 * OBX_SECOND)	/* credit, before that is told */

typedef enum Fate
{
	SENT,
	ACCEPTED,
	TRY_LATER,
	REJECTED,
	NOT_ALLOWED					/* a person must repair it */
} Fate;

typedef struct Entry
{
	int64_t		ticket;
	Fate		fate;
	uint32_t	group;			/* a hash of it; 0: none */
	char	   *why;			/* it was not accepted; or NULL */
} Entry;

typedef struct Amqp
{
	/* settings */
	ObxAmqpEndpoint endpoint;
	ObxAmqpWriter writer;
	bool		one_per_group;

	ObxAmqpConnection *connection;	/* or NULL */
	bool		is_connecting;	/* CONNECTED is to be told */
	bool		knows_peer;
	bool		is_rabbitmq;
	int64_t		without_credit; /* since when something waits for it; 0: not */
	bool		held_is_told;
	bool		was_full;		/* a message was not taken */
	uint64_t	tag;			/* of the delivery made last */

	Entry	   *entries;		/* a ring: those that are not done */
	int			capacity;
	uint64_t	first;
	uint64_t	end;			/* behind the last one */
	uint64_t	alone;			/* so many messages go one by one */
	int64_t		newest;			/* ticket */
	int64_t		forgotten;		/* up to this one */
	ObxSinkResult rejection;	/* to be told, if ticket > 0 */
} Amqp;

/* ---- settings ---- */

static const char *
get(ObxConfig *config, const char *name)
{
	return obx_config_get(config, SECTION, name);
}

static bool
read_switch(ObxConfig *config, const char *name, bool otherwise)
{
	const char *value = get(config, name);

	if (value == NULL)
		return otherwise;
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		obx_config_fail(config, SECTION, name, "\"%s\" must be on or off", name);
	return strcmp(value, "on") == 0;
}

static int
read_unsettled(ObxConfig *config)
{
	const char *value = get(config, "unsettled");
	char	   *end = NULL;
	long		number = value != NULL ? strtol(value, &end, 10) : 1000;

	if (number >= 1 && number <= MOST_UNSETTLED && (end == NULL || (end != value && *end == '\0')))
		return number;
	obx_config_fail(config, SECTION, "unsettled", "\"unsettled\" must be a number from 1 to %d",
					MOST_UNSETTLED);
	return 1;
}

static void
read_writer(ObxAmqpWriter *writer, ObxConfig *config, const ObxAmqpEndpoint *endpoint,
			ObxSinkTraits *traits)
{
	const char *format = obx_config_get(config, "", "format");

	writer->structured = format != NULL && strcmp(format, "cloudevents-json") == 0;
	writer->service_bus = read_switch(config, "service_bus", endpoint->host != NULL &&
									  strstr(endpoint->host, ".servicebus.") != NULL);
	writer->message = pn_message();
	obx_text_init(&writer->text);
	obx_text_init(&writer->group_text);
	writer->subject = obx_template_read(config, SECTION, "subject", "{type}");
	writer->group = obx_template_read(config, SECTION, "group", "{key}");
	traits->takes_parts = !writer->structured;
	if (writer->subject != NULL && writer->group != NULL)
		traits->columns = OBX_COLUMN_TIME | OBX_COLUMN_CORRELATION | OBX_COLUMN_KEY |
			obx_template_columns(writer->subject) | obx_template_columns(writer->group);
}

static void *
open_amqp(ObxConfig *config, ObxSinkTraits *traits)
{
	Amqp	   *amqp = obx_allocate(sizeof(Amqp));
	ObxAmqpEndpoint *endpoint = &amqp->endpoint;

	obx_amqp_endpoint_read(endpoint, config);
	amqp->one_per_group = read_switch(config, "one_per_group", true);
	amqp->capacity = read_unsettled(config);
	amqp->entries = obx_allocate(amqp->capacity * sizeof(Entry));
	read_writer(&amqp->writer, config, endpoint, traits);
	return amqp;
}

/* ---- what the peer answers ---- */

static Entry *
entry_at(const Amqp *amqp, uint64_t number)
{
	return &amqp->entries[number % amqp->capacity];
}

static void
refuse(Entry *entry, Fate fate, const char *outcome, pn_condition_t * condition)
{
	const char *name = condition != NULL && pn_condition_is_set(condition) ?
	pn_condition_get_name(condition) : NULL;
	const char *description = name != NULL ? pn_condition_get_description(condition) : NULL;
	ObxText text;

	obx_text_init(&text);
	obx_text_printf(&text, "the peer has %s it%s%s%s%s", outcome, name != NULL ? ": " : "",
					name != NULL ? name : "", description != NULL ? ": " : "",
					description != NULL ? description : "");
	entry->fate = fate;
	entry->why = text.data;
}

/*
 * RabbitMQ releases what no queue wants, and rejects, without a reason, what a
 * queue is too full for; others release what they have no use for just now.
 */
static void
take_outcome(const Amqp *amqp, Entry *entry, pn_delivery_t * delivery)
{
	pn_disposition_t *remote = pn_delivery_remote(delivery);
	pn_condition_t *condition;
	ObxVerdict	verdict;

	switch (pn_delivery_remote_state(delivery))
	{
		case PN_ACCEPTED:
			entry->fate = ACCEPTED;
			break;
		case PN_REJECTED:
			condition = pn_disposition_condition(remote);
			verdict = obx_amqp_verdict(pn_condition_get_name(condition), OBX_NEVER);
			if (amqp->is_rabbitmq && !pn_condition_is_set(condition))
				verdict = OBX_LATER;
			refuse(entry, verdict == OBX_NEVER ? REJECTED : verdict == OBX_LATER ? TRY_LATER : NOT_ALLOWED,
				   "rejected", condition);
			break;
		case PN_RELEASED:
			refuse(entry, amqp->is_rabbitmq ? REJECTED : TRY_LATER, "released", NULL);
			break;
		case PN_MODIFIED:
			refuse(entry, pn_disposition_is_undeliverable(remote) ? REJECTED : TRY_LATER, "modified", NULL);
			break;
		default:
			refuse(entry, TRY_LATER, "said nothing about", NULL);
	}
}

/* An ObxAmqpDeliveryFunction. */
static void
take_delivery(void *context, pn_delivery_t * delivery)
{
	Amqp	   *amqp = context;
	pn_delivery_tag_t tag = pn_delivery_tag(delivery);
	uint64_t	number;

	if (tag.size != sizeof(number) || (pn_delivery_remote_state(delivery) < PN_ACCEPTED &&
									   !pn_delivery_settled(delivery)))
		return;
	memcpy(&number, tag.start, sizeof(number));
	if (number >= amqp->first && number < amqp->end && entry_at(amqp, number)->fate == SENT)
		take_outcome(amqp, entry_at(amqp, number), delivery);
	pn_delivery_settle(delivery);
}

/* ---- sending ---- */

static uint32_t
hash(const char *text)
{
	uint32_t	value = 2166136261u;

	for (; *text !='\0'; text ++)
		value = (value ^ (unsigned char) *text) *16777619u;
	return value != 0 ? value : 1;
}

static bool
is_group_under_way(const Amqp *amqp, uint32_t group)
{
	for (uint64_t number = amqp->first; number < amqp->end; number++)
		if (entry_at(amqp, number)->group == group && entry_at(amqp, number)->fate == SENT)
			return true;
	return false;
}

/* What is not accepted is told in its turn, and nothing passes it until then. */
static bool
waits_to_be_told(const Amqp *amqp)
{
	return amqp->rejection.ticket > 0 ||
		(amqp->first < amqp->end && entry_at(amqp, amqp->first)->fate != SENT);
}

static bool
has_credit(Amqp *amqp, pn_link_t * link)
{
	if (pn_link_credit(link) > 0)
	{
		amqp->without_credit = 0;
		return true;
	}
	if (amqp->without_credit == 0)
		amqp->without_credit = obx_now();
	return false;
}

static bool
has_place(Amqp *amqp)
{
	uint64_t	waiting = amqp->end - amqp->first;
	pn_link_t  *link = amqp->connection != NULL ? obx_amqp_connection_link(amqp->connection) : NULL;

	return link != NULL && waiting < (uint64_t) amqp->capacity && (amqp->alone == 0 || waiting == 0) &&
		!waits_to_be_told(amqp) && has_credit(amqp, link) &&
		obx_amqp_connection_unsent(amqp->connection) < MOST_UNSENT;
}

static ObxSinkResult
make_result(ObxVerdict verdict, int64_t ticket, const char *text)
{
	ObxSinkResult result = {.verdict = verdict,.ticket = ticket};

	snprintf(result.text, sizeof(result.text), "%s", text);
	return result;
}

/* One that cannot be sent is rejected, in its turn. */
static bool
reject_unsent(Amqp *amqp, int64_t ticket, const char *why)
{
	if (amqp->first < amqp->end)
		return false;
	amqp->rejection = make_result(OBX_NEVER, ticket, why);
	amqp->newest = ticket;
	return true;
}

static void
deliver(Amqp *amqp, pn_link_t * link, int64_t ticket, uint32_t group)
{
	uint64_t	number = amqp->end++;

	*entry_at(amqp, number) = (Entry)
	{
		.ticket = ticket,.fate = SENT,.group = group
	};
	pn_delivery(link, pn_dtag((const char *) &number, sizeof(number)));
	pn_link_send(link, amqp->writer.bytes.start, amqp->writer.size);
	pn_link_advance(link);
	amqp->newest = ticket;
}

static bool
send_amqp(void *context, const ObxMessage *message)
{
	Amqp	   *amqp = context;
	pn_link_t  *link;
	uint64_t	most;
	uint32_t	group = 0;
	char		why[300];

	amqp->was_full = !has_place(amqp);
	if (amqp->was_full)
		return false;
	if (!obx_amqp_writer_write(&amqp->writer, message, why, sizeof(why)))
		return reject_unsent(amqp, message->ticket, why);
	link = obx_amqp_connection_link(amqp->connection);
	most = pn_link_remote_max_message_size(link);
	if (most > 0 && amqp->writer.size > most)
	{
		snprintf(why, sizeof(why), "its message has %zu bytes, and the peer takes %llu",
				 amqp->writer.size, (unsigned long long) most);
		return reject_unsent(amqp, message->ticket, why);
	}
	if (amqp->one_per_group && amqp->writer.group_text.length > 0)
	{
		group = hash(amqp->writer.group_text.data);
		if (is_group_under_way(amqp, group))
			return false;
	}
	deliver(amqp, link, message->ticket, group);
	return true;
}

/* ---- results ---- */

static void
forget_entries(Amqp *amqp)
{
	amqp->forgotten = amqp->newest;
	amqp->rejection.ticket = 0;
	amqp->without_credit = 0;
	amqp->alone = 1;
}

static void
finish_entry(Amqp *amqp)
{
	Entry	   *entry = entry_at(amqp, amqp->first++);

	free(entry->why);
	entry->why = NULL;
	if (amqp->alone > 0)
		amqp->alone--;
}

/* What is answered, in order; false if there is nothing to tell. */
static bool
tell_answers(Amqp *amqp, ObxSinkResult *result)
{
	int64_t		confirmed = 0;

	while (amqp->first < amqp->end)
	{
		Entry	   *entry = entry_at(amqp, amqp->first);
		Fate		fate = entry->fate;
		int64_t		ticket = entry->ticket;
		bool		counts = ticket > amqp->forgotten;

		if (fate == SENT || (fate != ACCEPTED && counts && confirmed > 0))
			break;
		if (counts && fate == ACCEPTED)
			confirmed = ticket;
		else if (counts)
			*result = make_result(fate == REJECTED ? OBX_NEVER : fate == TRY_LATER ? OBX_LATER : OBX_REFUSED,
								  fate == REJECTED ? ticket : 0, entry->why);
		finish_entry(amqp);
		if (counts && fate != ACCEPTED)
		{
			if (fate != REJECTED)
				forget_entries(amqp);
			return true;
		}
	}
	if (confirmed > 0)
		*result = make_result(OBX_CONFIRMED, confirmed, "");
	return confirmed > 0;
}

static void
end_connection(Amqp *amqp)
{
	if (amqp->connection != NULL)
		obx_amqp_connection_free(amqp->connection);
	amqp->connection = NULL;
	amqp->knows_peer = amqp->is_rabbitmq = false;
	while (amqp->first < amqp->end)
		finish_entry(amqp);
	forget_entries(amqp);
}

static bool
tell_end(Amqp *amqp, ObxSinkResult *result)
{
	ObxVerdict	verdict;
	const char *why;

	if (amqp->connection == NULL || !obx_amqp_connection_is_over(amqp->connection, &verdict, &why))
		return false;
	*result = make_result(verdict, 0, why);
	amqp->is_connecting = false;
	end_connection(amqp);
	return true;
}

static bool
lacks_credit(const Amqp *amqp)
{
	return amqp->without_credit != 0 && obx_now() - amqp->without_credit > LONGEST_WITHOUT;
}

static bool
tell_state(Amqp *amqp, ObxSinkResult *result)
{
	bool		held = !amqp->is_connecting && lacks_credit(amqp);

	if (amqp->connection == NULL || obx_amqp_connection_link(amqp->connection) == NULL ||
		(!amqp->is_connecting && amqp->held_is_told == held))
		return false;
	*result = make_result(held ? OBX_HELD : OBX_CONNECTED, 0,
						  held ? "the peer takes nothing for now: it gives no credit" : "");
	amqp->is_connecting = false;
	amqp->held_is_told = held;
	return true;
}

static bool
tell_result(void *context, ObxSinkResult *result)
{
	Amqp	   *amqp = context;

	if (tell_answers(amqp, result))
		return true;
	if (amqp->rejection.ticket > 0)
	{
		*result = amqp->rejection;
		amqp->rejection.ticket = 0;
		if (amqp->alone > 0)
			amqp->alone--;
		return true;
	}
	return tell_end(amqp, result) || tell_state(amqp, result);
}

/* ---- the rest ---- */

static void
connect_amqp(void *context)
{
	Amqp	   *amqp = context;

	amqp->is_connecting = true;
	amqp->held_is_told = false;
	if (amqp->connection == NULL)
		amqp->connection = obx_amqp_connection_new(&amqp->endpoint, take_delivery, amqp);
}

static void
work_amqp(void *context)
{
	Amqp	   *amqp = context;
	pn_link_t  *link;

	if (amqp->connection == NULL)
		return;
	obx_amqp_connection_work(amqp->connection);
	link = obx_amqp_connection_link(amqp->connection);
	if (link == NULL)
		return;
	if (!amqp->knows_peer)
		amqp->is_rabbitmq = obx_amqp_connection_is_to(amqp->connection, "RabbitMQ");
	amqp->knows_peer = true;
	if (amqp->without_credit != 0 && pn_link_credit(link) > 0)
		amqp->without_credit = 0;
}

static void
seal_amqp(void *context, const char *progress)
{
	(void) context;
	(void) progress;
}

static int
wait_for_amqp(void *context, struct pollfd *descriptors, int max, int64_t * until)
{
	Amqp	   *amqp = context;
	int64_t		told_at = amqp->without_credit + LONGEST_WITHOUT + 1;

	/* once: then it is offered again, if it is still to be sent */
	if (amqp->rejection.ticket > 0 || (amqp->was_full && has_place(amqp)))
	{
		*until = 0;
		amqp->was_full = false;
	}
	if (amqp->without_credit != 0 && !amqp->held_is_told && told_at < *until)
		*until = told_at;
	if (amqp->connection == NULL || max < 1)
		return 0;
	return obx_amqp_connection_wait_for(amqp->connection, descriptors, until);
}

static void
forget_amqp(void *context)
{
	forget_entries(context);
}

static void
close_amqp(void *context)
{
	Amqp	   *amqp = context;

	end_connection(amqp);
	free(amqp->entries);
	obx_amqp_endpoint_free(&amqp->endpoint);
	obx_template_free(amqp->writer.subject);
	obx_template_free(amqp->writer.group);
	obx_text_free(&amqp->writer.text);
	obx_text_free(&amqp->writer.group_text);
	pn_message_free(amqp->writer.message);
	free(amqp->writer.bytes.start);
	free(amqp);
}

const ObxSinkModule obx_sink = {
	.interface = OBX_SINK_INTERFACE,
	.name = "amqp",
	.open = open_amqp,
	.connect = connect_amqp,
	.send = send_amqp,
	.seal = seal_amqp,
	.wait_for = wait_for_amqp,
	.work = work_amqp,
	.result = tell_result,
	.forget = forget_amqp,
	.close = close_amqp
};
