/*
 * The sink "rabbitmq": AMQP 0-9-1, by librabbitmq.
 *
 * An event is confirmed when the broker has confirmed it; one that the broker
 * returns, since no queue wants it, is rejected.  What was published is
 * answered in order: of an event nothing is told before all is told of those
 * before it.
 *
 * After a failure, events go one by one until the first of them is confirmed:
 * so that those behind it do not pass it, nor arrive again with each attempt.
 */
#include "sink/rabbitmq_session.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "sink/rabbitmq_library.h"

#define SECTION			"rabbitmq"
#define MOST_UNCONFIRMED 100000
#define WAKE_AT_ONCE	64		/* letters */
#define LONGEST_SEND	(3 * OBX_SECOND)	/* of a letter, before that is
											 * told */
#define LONGEST_LEAVE	OBX_SECOND

/* ---- settings ---- */

static char *
copy_setting(ObxConfig *config, const char *name)
{
	const char *value = obx_config_get(config, SECTION, name);

	return value != NULL ? obx_copy_string(value) : NULL;
}

/* An error does not repeat it: there may be a password in it. */
static void
read_url(ObxRabbitmqEndpoint *endpoint, ObxConfig *config)
{
	struct amqp_connection_info info;
	const char *end;

	endpoint->url = copy_setting(config, "url");
	endpoint->own_password = copy_setting(config, "password");
	if (endpoint->url == NULL)
	{
		obx_config_fail(config, "", "sink", "\"url\" must be set in the section \"" SECTION "\"");
		return;
	}
	end = endpoint->url + strlen(endpoint->url);
	if (amqp_parse_url(endpoint->url, &info) != AMQP_STATUS_OK)
	{
		obx_config_fail(config, SECTION, "url", "\"url\" must be"
						" amqp[s]://[USER[:PASSWORD]@]HOST[:PORT][/VHOST], with %%XX for other characters");
		return;
	}
	endpoint->host = info.host;
	endpoint->port = info.port;
	endpoint->vhost = info.vhost;
	endpoint->tls = info.ssl;
	endpoint->user = info.user;
	/* what is not in the URL, the library has made up */
	if (info.password > endpoint->url && info.password <= end)
		endpoint->password = info.password;
	else if (strcmp(info.user, info.password) == 0)
		endpoint->password = info.password;
}

/* "on" or "off". */
static bool
read_switch(ObxConfig *config, const char *name, bool otherwise)
{
	const char *value = obx_config_get(config, SECTION, name);

	if (value == NULL)
		return otherwise;
	if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
		obx_config_fail(config, SECTION, name, "\"%s\" must be on or off", name);
	return strcmp(value, "on") == 0;
}

static int
read_unconfirmed(ObxConfig *config)
{
	const char *value = obx_config_get(config, SECTION, "unconfirmed");
	char	   *end = NULL;
	long		number = value != NULL ? strtol(value, &end, 10) : 1000;

	if (number >= 1 && number <= MOST_UNCONFIRMED && (end == NULL || (end != value && *end == '\0')))
		return number;
	obx_config_fail(config, SECTION, "unconfirmed", "\"unconfirmed\" must be a number from 1 to %d",
					MOST_UNCONFIRMED);
	return 1;
}

static void
read_tls(ObxRabbitmqEndpoint *endpoint, ObxConfig *config)
{
	endpoint->ca_file = copy_setting(config, "ca_file");
	endpoint->cert_file = copy_setting(config, "cert_file");
	endpoint->key_file = copy_setting(config, "key_file");
	endpoint->external = read_switch(config, "external", false);
	if (!endpoint->tls && (endpoint->ca_file != NULL || endpoint->cert_file != NULL ||
						   endpoint->key_file != NULL || endpoint->external))
		obx_config_fail(config, SECTION, "url", "certificates need an \"url\" with amqps://");
	else if ((endpoint->cert_file == NULL) != (endpoint->key_file == NULL))
		obx_config_fail(config, SECTION, endpoint->cert_file != NULL ? "cert_file" : "key_file",
						"\"cert_file\" and \"key_file\" need each other");
	else if (endpoint->external && endpoint->cert_file == NULL)
		obx_config_fail(config, SECTION, "external", "\"external\" needs \"cert_file\"");
}

/*
 * The default exchange, which has no name, must be asked for: by its rule the
 * routing key is the name of a queue.
 */
static void
read_address(ObxRabbitmq *rabbitmq, ObxConfig *config, ObxSinkTraits *traits)
{
	const char *exchange = obx_config_get(config, SECTION, "exchange");

	if (exchange == NULL)
		obx_config_fail(config, SECTION, "url", "\"exchange\" must be set in the section \"" SECTION
						"\": '' stands for the default exchange");
	rabbitmq->style.exchange = obx_template_read(config, SECTION, "exchange", "");
	rabbitmq->style.routing_key = obx_template_read(config, SECTION, "routing_key", "{type}");
	if (rabbitmq->style.exchange == NULL || rabbitmq->style.routing_key == NULL)
		return;
	traits->columns = OBX_COLUMN_TIME | OBX_COLUMN_TYPE | OBX_COLUMN_CORRELATION |
		obx_template_columns(rabbitmq->style.exchange) | obx_template_columns(rabbitmq->style.routing_key);
	if (exchange[0] != '\0' && obx_template_columns(rabbitmq->style.exchange) == 0)
		rabbitmq->endpoint.exchange = obx_copy_string(exchange);
}

static void *
open_rabbitmq(ObxConfig *config, ObxSinkTraits *traits)
{
	ObxRabbitmq *rabbitmq = obx_allocate(sizeof(ObxRabbitmq));
	const char *subscription = obx_config_get(config, "", "subscription");
	const char *format = obx_config_get(config, "", "format");
	ObxText		name;

	pthread_mutex_init(&rabbitmq->lock, NULL);
	rabbitmq->socket = -1;
	rabbitmq->to_loop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rabbitmq->to_thread = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	read_url(&rabbitmq->endpoint, config);
	read_tls(&rabbitmq->endpoint, config);
	if (rabbitmq->endpoint.password == NULL && rabbitmq->endpoint.own_password == NULL && !rabbitmq->endpoint.external)
		obx_config_fail(config, SECTION, "url", "\"password\" must be set, in the section \"" SECTION "\"");
	read_address(rabbitmq, config, traits);
	rabbitmq->style.structured = format != NULL && strcmp(format, "cloudevents-json") == 0;
	traits->takes_parts = !rabbitmq->style.structured;
	rabbitmq->mandatory = read_switch(config, "mandatory", true);
	rabbitmq->capacity = read_unconfirmed(config);
	rabbitmq->endpoint.heartbeat = obx_config_duration(config, SECTION, "heartbeat", OBX_SECOND, 3600 * OBX_SECOND,
													   30 * OBX_SECOND) / OBX_SECOND;
	rabbitmq->endpoint.timeout = obx_config_duration(config, SECTION, "timeout", 100 * OBX_MILLISECOND,
													 3600 * OBX_SECOND, 15 * OBX_SECOND);
	obx_text_init(&name);
	obx_text_printf(&name, "pg_outbox %s", subscription != NULL ? subscription : "");
	rabbitmq->endpoint.name = name.data;
	rabbitmq->letters = obx_allocate(rabbitmq->capacity * sizeof(ObxRabbitmqLetter));
	for (int i = 0; i < rabbitmq->capacity; i++)
		obx_text_init(&rabbitmq->letters[i].text);
	rabbitmq->first = rabbitmq->next = 1;
	return rabbitmq;
}

/* ---- sending ---- */

/* The thread of the connection, if it sleeps.  The lock is held. */
static void
wake_thread(ObxRabbitmq *rabbitmq)
{
	if (rabbitmq->thread_sleeps && eventfd_write(rabbitmq->to_thread, 1) == 0)
		rabbitmq->thread_sleeps = false;
}

/* Is there a place, and may it be taken now? */
static bool
has_place(ObxRabbitmq *rabbitmq)
{
	int			waiting;
	bool		has;

	pthread_mutex_lock(&rabbitmq->lock);
	waiting = rabbitmq->last + 1 - rabbitmq->first;
	has = rabbitmq->rejection.ticket == 0 && rabbitmq->state == OBX_UP && !rabbitmq->is_blocked && waiting < rabbitmq->capacity &&
		rabbitmq->queued_bytes < OBX_RABBITMQ_QUEUED && (rabbitmq->alone == 0 || waiting == 0);
	rabbitmq->wants_place = !has;
	pthread_mutex_unlock(&rabbitmq->lock);
	return has;
}

static ObxSinkResult
make_result(ObxVerdict verdict, int64_t ticket, const char *text)
{
	ObxSinkResult result = {.verdict = verdict,.ticket = ticket};

	snprintf(result.text, sizeof(result.text), "%s", text);
	return result;
}

/* A letter that cannot be published is rejected, in its turn. */
static bool
reject_unsent(ObxRabbitmq *rabbitmq, int64_t ticket, const char *why)
{
	if (rabbitmq->last >= rabbitmq->first)
		return false;
	rabbitmq->rejection = make_result(OBX_NEVER, ticket, why);
	rabbitmq->newest = ticket;
	return true;
}

static bool
send_letter(void *context, const ObxMessage *message)
{
	ObxRabbitmq *rabbitmq = context;
	ObxRabbitmqLetter *letter = obx_rabbitmq_letter(rabbitmq, rabbitmq->last + 1);
	const char *missing = NULL;
	int64_t		most_bytes;
	size_t		frame_size;
	char		why[300];

	if (!has_place(rabbitmq))
		return false;
	if (!obx_rabbitmq_letter_write(letter, &rabbitmq->style, message, &missing))
	{
		snprintf(why, sizeof(why), "it has no \"%s\", which is to be in its exchange or routing key", missing);
		return reject_unsent(rabbitmq, message->ticket, why);
	}
	pthread_mutex_lock(&rabbitmq->lock);
	most_bytes = rabbitmq->most_bytes;
	frame_size = rabbitmq->frame_size;
	pthread_mutex_unlock(&rabbitmq->lock);
	if (!obx_rabbitmq_letter_fits(letter, frame_size, most_bytes, why, sizeof(why)))
		return reject_unsent(rabbitmq, message->ticket, why);
	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->last++;
	rabbitmq->queued_bytes += letter->text.length;
	/* the others of this turn are there soon; work() wakes it up in any case */
	if (rabbitmq->last - rabbitmq->next >= WAKE_AT_ONCE)
		wake_thread(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
	rabbitmq->newest = message->ticket;
	return true;
}

/* ---- results ---- */

/* ---- results ---- */

/* What is not confirmed; the lock is held. */
static void
forget_letters(ObxRabbitmq *rabbitmq)
{
	for (; rabbitmq->last >= rabbitmq->next; rabbitmq->last--)
	{
		ObxText    *text = &obx_rabbitmq_letter(rabbitmq, rabbitmq->last)->text;

		rabbitmq->queued_bytes -= text->length;

		obx_text_clear(text);
	}
	rabbitmq->forgotten = rabbitmq->newest;
	rabbitmq->rejection.ticket = 0;
}

/* The first letter is answered. */
static void
finish_letter(ObxRabbitmq *rabbitmq)
{
	rabbitmq->first++;
	if (rabbitmq->alone > 0)
		rabbitmq->alone--;
}

/* What is answered, in order; false if there is nothing to tell. */
static bool
tell_answers(ObxRabbitmq *rabbitmq, ObxSinkResult *result)
{
	int64_t		confirmed = 0;

	while (rabbitmq->first < rabbitmq->next)
	{
		ObxRabbitmqLetter *letter = obx_rabbitmq_letter(rabbitmq, rabbitmq->first);
		bool		counts = letter->ticket > rabbitmq->forgotten;

		if (letter->fate == OBX_PUBLISHED || (letter->fate != OBX_ACKED && confirmed > 0))
			break;
		finish_letter(rabbitmq);
		if (!counts)
			continue;
		if (letter->fate == OBX_ACKED)
			confirmed = letter->ticket;
		else if (letter->fate == OBX_RETURNED)
		{
			*result = make_result(OBX_NEVER, letter->ticket, letter->why);
			return true;
		}
		else
		{
			*result = make_result(OBX_LATER, 0, "the broker did not take an event: a queue is full, or has failed");
			forget_letters(rabbitmq);
			rabbitmq->alone = 1;
			return true;
		}
	}
	if (confirmed > 0)
		*result = make_result(OBX_CONFIRMED, confirmed, "");
	return confirmed > 0;
}

/* The connection has ended.  Was it a letter's fault, and is known whose? */
static void
tell_end(ObxRabbitmq *rabbitmq, ObxSinkResult *result)
{
	uint64_t	unanswered = rabbitmq->next - rabbitmq->first;
	int64_t		ticket = obx_rabbitmq_letter(rabbitmq, rabbitmq->first)->ticket;

	if (rabbitmq->end.blames && unanswered == 1 && ticket > rabbitmq->forgotten)
	{
		*result = make_result(OBX_NEVER, ticket, rabbitmq->end.why);
		finish_letter(rabbitmq);
		return;
	}
	rabbitmq->has_ended = rabbitmq->is_connecting = false;
	rabbitmq->alone = rabbitmq->end.blames && unanswered > 1 ? unanswered : 1;
	forget_letters(rabbitmq);
	*result = make_result(rabbitmq->end.verdict, 0, rabbitmq->end.why);
}

/* Does it read no more, without having said so? */
static bool
is_stuck(const ObxRabbitmq *rabbitmq)
{
	return rabbitmq->sending_since != 0 && obx_now() - rabbitmq->sending_since > LONGEST_SEND;
}

static bool
tell_state(ObxRabbitmq *rabbitmq, ObxSinkResult *result)
{
	bool		held = !rabbitmq->is_connecting && (rabbitmq->is_blocked || is_stuck(rabbitmq));

	if (!rabbitmq->is_connecting && rabbitmq->held_is_told == held)
		return false;
	*result = make_result(held ? OBX_HELD : OBX_CONNECTED, 0, !held ? "" :
						  rabbitmq->is_blocked ? rabbitmq->blocked_why :
						  "the broker takes nothing for now: it does not read what is sent to it");
	rabbitmq->is_connecting = false;
	rabbitmq->held_is_told = held;
	return true;
}

/* The lock is held. */
static bool
tell_any(ObxRabbitmq *rabbitmq, ObxSinkResult *result)
{
	if (tell_answers(rabbitmq, result))
		return true;
	if (rabbitmq->rejection.ticket > 0)
	{
		*result = rabbitmq->rejection;
		rabbitmq->rejection.ticket = 0;
		return true;
	}
	if (rabbitmq->has_ended)
	{
		tell_end(rabbitmq, result);
		return true;
	}
	return rabbitmq->state == OBX_UP && tell_state(rabbitmq, result);
}

static bool
tell_result(void *context, ObxSinkResult *result)
{
	ObxRabbitmq *rabbitmq = context;
	bool		found;

	pthread_mutex_lock(&rabbitmq->lock);
	found = tell_any(rabbitmq, result);
	pthread_mutex_unlock(&rabbitmq->lock);
	return found;
}

static void
forget_rabbitmq(void *context)
{
	ObxRabbitmq *rabbitmq = context;

	pthread_mutex_lock(&rabbitmq->lock);
	forget_letters(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
	rabbitmq->alone = 1;
}

static void
work_rabbitmq(void *context)
{
	ObxRabbitmq *rabbitmq = context;
	eventfd_t	unused;

	pthread_mutex_lock(&rabbitmq->lock);
	if (rabbitmq->loop_is_told && eventfd_read(rabbitmq->to_loop, &unused) == 0)
		rabbitmq->loop_is_told = false;
	if (rabbitmq->next <= rabbitmq->last && !rabbitmq->is_blocked)
		wake_thread(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
}

static void
seal_rabbitmq(void *context, const char *progress)
{
	(void) context;
	(void) progress;
}

static int
wait_for_rabbitmq(void *context, struct pollfd *descriptors, int max, int64_t * until)
{
	ObxRabbitmq *rabbitmq = context;

	int64_t		told_at;

	if (rabbitmq->rejection.ticket > 0 || (rabbitmq->wants_place && has_place(rabbitmq)))
		*until = 0;
	pthread_mutex_lock(&rabbitmq->lock);
	told_at = rabbitmq->sending_since != 0 && !rabbitmq->held_is_told ?
		rabbitmq->sending_since + LONGEST_SEND + 1 : OBX_FOREVER;
	pthread_mutex_unlock(&rabbitmq->lock);
	if (told_at < *until)
		*until = told_at;
	if (max < 1)
		return 0;
	descriptors[0] = (struct pollfd)
	{
		.fd = rabbitmq->to_loop,.events = POLLIN
	};
	return 1;
}

/* ---- the thread ---- */

/* Signals are the relay's thread's. */
static bool
start_thread(ObxRabbitmq *rabbitmq)
{
	sigset_t	all;
	sigset_t	former;
	int			error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &former);
	error = pthread_create(&rabbitmq->thread, NULL, obx_rabbitmq_session_run, rabbitmq);
	pthread_sigmask(SIG_SETMASK, &former, NULL);
	return error == 0;
}

static ObxRabbitmqState
get_state(ObxRabbitmq *rabbitmq)
{
	ObxRabbitmqState state;

	pthread_mutex_lock(&rabbitmq->lock);
	state = rabbitmq->state;
	pthread_mutex_unlock(&rabbitmq->lock);
	return state;
}

static void
connect_rabbitmq(void *context)
{
	ObxRabbitmq *rabbitmq = context;

	rabbitmq->is_connecting = true;
	if (get_state(rabbitmq) != OBX_DOWN)
		return;
	if (rabbitmq->has_thread)
		pthread_join(rabbitmq->thread, NULL);
	forget_letters(rabbitmq);
	rabbitmq->first = rabbitmq->next = 1;
	rabbitmq->last = 0;
	rabbitmq->unanswered = rabbitmq->untold = 0;
	rabbitmq->has_ended = rabbitmq->thread_sleeps = rabbitmq->held_is_told = false;
	rabbitmq->state = OBX_CONNECTING;
	rabbitmq->has_thread = start_thread(rabbitmq);
	if (rabbitmq->has_thread)
		return;
	rabbitmq->state = OBX_DOWN;
	rabbitmq->has_ended = true;
	rabbitmq->end = (ObxRabbitmqEnd)
	{
		true, OBX_LATER, false, 0, "could not start a thread"
	};
}

/*
 * A thread that does not end soon, since it looks a name up, is left alone: it
 * frees what there is.
 */
static void
close_rabbitmq(void *context)
{
	ObxRabbitmq *rabbitmq = context;
	int64_t		until = obx_now() + LONGEST_LEAVE;
	struct pollfd told = {.fd = rabbitmq->to_loop,.events = POLLIN};

	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->stopping = true;
	if (rabbitmq->socket >= 0 && (rabbitmq->sending_since != 0 || rabbitmq->is_blocked))
		shutdown(rabbitmq->socket, SHUT_RDWR);
	wake_thread(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
	while (rabbitmq->has_thread && get_state(rabbitmq) != OBX_DOWN && obx_now() < until)
	{
		poll(&told, 1, (until - obx_now()) / OBX_MILLISECOND + 1);
		work_rabbitmq(rabbitmq);
	}
	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->abandoned = rabbitmq->has_thread && rabbitmq->state != OBX_DOWN;
	if (rabbitmq->abandoned)
		pthread_detach(rabbitmq->thread);
	else
	{
		pthread_mutex_unlock(&rabbitmq->lock);
		if (rabbitmq->has_thread)
			pthread_join(rabbitmq->thread, NULL);
		obx_rabbitmq_free(rabbitmq);
		return;
	}
	pthread_mutex_unlock(&rabbitmq->lock);
}

const ObxSinkModule obx_sink = {
	.interface = OBX_SINK_INTERFACE,
	.name = "rabbitmq",
	.open = open_rabbitmq,
	.connect = connect_rabbitmq,
	.send = send_letter,
	.seal = seal_rabbitmq,
	.wait_for = wait_for_rabbitmq,
	.work = work_rabbitmq,
	.result = tell_result,
	.forget = forget_rabbitmq,
	.close = close_rabbitmq
};
