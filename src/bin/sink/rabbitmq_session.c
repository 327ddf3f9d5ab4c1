/*
 * A connection to RabbitMQ, in a thread of its own: librabbitmq waits when it
 * connects, and when the broker reads no more.
 *
 * Letters are published in their order, on one channel, whose confirms are
 * asked for.  The thread ends with its connection.
 */
#include "sink/rabbitmq_session.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "sink/rabbitmq_library.h"

#define BETWEEN_READS	64		/* letters */
#define BYTES_BETWEEN_READS (64 * 1024)
#define TELL_AT_ONCE	64		/* answers */
#define TELL_AFTER		2		/* ms */
#define MOST_KEPT		(16 * 1024) /* bytes, for the next text in its place */
#define GRACE			500000	/* microseconds, for taking leave */

typedef struct Session
{
	ObxRabbitmq *rabbitmq;
	amqp_connection_state_t connection;
	ObxRabbitmqEnd end;

	/* a letter comes back: in several frames */
	bool		is_returning;
	char		return_why[600];
} Session;

ObxRabbitmqLetter *
obx_rabbitmq_letter(const ObxRabbitmq *rabbitmq, uint64_t number)
{
	return &rabbitmq->letters[number % rabbitmq->capacity];
}

void
obx_rabbitmq_free(ObxRabbitmq *rabbitmq)
{
	for (int i = 0; i < rabbitmq->capacity; i++)
	{
		obx_text_free(&rabbitmq->letters[i].text);
		free(rabbitmq->letters[i].why);
	}
	free(rabbitmq->letters);
	obx_rabbitmq_endpoint_free(&rabbitmq->endpoint);
	obx_template_free(rabbitmq->style.exchange);
	obx_template_free(rabbitmq->style.routing_key);
	if (rabbitmq->to_loop >= 0)
		close(rabbitmq->to_loop);
	if (rabbitmq->to_thread >= 0)
		close(rabbitmq->to_thread);
	pthread_mutex_destroy(&rabbitmq->lock);
	free(rabbitmq);
}

/* ---- what the broker says ---- */

/* The lock is held. */
static void
tell_loop(ObxRabbitmq *rabbitmq)
{
	if (rabbitmq->loop_is_told)
		return;
	rabbitmq->loop_is_told = true;
	if (eventfd_write(rabbitmq->to_loop, 1) != 0)
		rabbitmq->loop_is_told = false;
}

/*
 * Each wake-up of the loop costs more than a letter: it is told at once when it
 * has nothing else to wait for, else of many answers, or after a moment.
 */
static void
note_answer(ObxRabbitmq *rabbitmq, ObxRabbitmqLetter *letter, ObxRabbitmqFate fate)
{
	letter->fate = fate;
	rabbitmq->unanswered--;
	if (rabbitmq->untold++ == 0)
		rabbitmq->untold_since = obx_now();
	if (fate == OBX_ACKED && rabbitmq->untold < TELL_AT_ONCE &&
		(rabbitmq->unanswered > 0 || rabbitmq->next <= rabbitmq->last) &&
		obx_now() - rabbitmq->untold_since < TELL_AFTER * OBX_MILLISECOND)
		return;
	rabbitmq->untold = 0;
	tell_loop(rabbitmq);
}

static void
take_confirm(Session *session, uint64_t tag, bool multiple, ObxRabbitmqFate fate)
{
	ObxRabbitmq *rabbitmq = session->rabbitmq;

	pthread_mutex_lock(&rabbitmq->lock);
	for (uint64_t number = multiple ? rabbitmq->first : tag;
		 number >= rabbitmq->first && number < rabbitmq->next && number <= tag; number++)
	{
		ObxRabbitmqLetter *letter = obx_rabbitmq_letter(rabbitmq, number);

		if (letter->fate == OBX_PUBLISHED)
			note_answer(rabbitmq, letter, fate);
	}
	pthread_mutex_unlock(&rabbitmq->lock);
}

/* They come back in their order: it is the first of this id that did not yet. */
static void
take_return(Session *session, amqp_bytes_t id)
{
	ObxRabbitmq *rabbitmq = session->rabbitmq;

	session->is_returning = false;
	pthread_mutex_lock(&rabbitmq->lock);
	for (uint64_t number = rabbitmq->first; number < rabbitmq->next; number++)
	{
		ObxRabbitmqLetter *letter = obx_rabbitmq_letter(rabbitmq, number);

		if (letter->fate != OBX_PUBLISHED || strlen(letter->id) != id.len ||
			memcmp(letter->id, id.bytes, id.len) != 0)
			continue;
		free(letter->why);
		letter->why = obx_copy_string(session->return_why);
		note_answer(rabbitmq, letter, OBX_RETURNED);
		break;
	}
	pthread_mutex_unlock(&rabbitmq->lock);
}

static void
begin_return(Session *session, const amqp_basic_return_t * method)
{
	session->is_returning = true;
	snprintf(session->return_why, sizeof(session->return_why),
			 "the broker returned it: %.*s, exchange \"%.*s\", routing key \"%.*s\"",
			 (int) method->reply_text.len, (char *) method->reply_text.bytes,
			 (int) method->exchange.len, (char *) method->exchange.bytes,
			 (int) method->routing_key.len, (char *) method->routing_key.bytes);
}

static void
set_blocked(Session *session, bool is_blocked, amqp_bytes_t why)
{
	ObxRabbitmq *rabbitmq = session->rabbitmq;

	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->is_blocked = is_blocked;
	snprintf(rabbitmq->blocked_why, sizeof(rabbitmq->blocked_why),
			 "the broker takes nothing for now: %.*s", (int) why.len, (char *) why.bytes);
	tell_loop(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
}

static void
take_method(Session *session, const amqp_method_t * method)
{
	switch (method->id)
	{
		case AMQP_BASIC_ACK_METHOD:
			{
				amqp_basic_ack_t *ack = method->decoded;

				take_confirm(session, ack->delivery_tag, ack->multiple, OBX_ACKED);
				break;
			}
		case AMQP_BASIC_NACK_METHOD:
			{
				amqp_basic_nack_t *nack = method->decoded;

				take_confirm(session, nack->delivery_tag, nack->multiple, OBX_NACKED);
				break;
			}
		case AMQP_BASIC_RETURN_METHOD:
			begin_return(session, method->decoded);
			break;
		case AMQP_CONNECTION_BLOCKED_METHOD:
			set_blocked(session, true, ((amqp_connection_blocked_t *) method->decoded)->reason);
			break;
		case AMQP_CONNECTION_UNBLOCKED_METHOD:
			set_blocked(session, false, amqp_empty_bytes);
			break;
		case AMQP_CHANNEL_CLOSE_METHOD:
			{
				amqp_channel_close_t *close = method->decoded;

				obx_rabbitmq_end_by_close(&session->end, close->reply_code, close->reply_text);
				break;
			}
		case AMQP_CONNECTION_CLOSE_METHOD:
			{
				amqp_connection_close_t *close = method->decoded;
				amqp_connection_close_ok_t answer = {0};

				obx_rabbitmq_end_by_close(&session->end, close->reply_code, close->reply_text);
				amqp_send_method(session->connection, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &answer);
				break;
			}
		default:
			break;
	}
}

static void
take_frame(Session *session, const amqp_frame_t * frame)
{
	const		amqp_basic_properties_t *properties;

	if (frame->frame_type == AMQP_FRAME_METHOD)
		take_method(session, &frame->payload.method);
	else if (frame->frame_type == AMQP_FRAME_HEADER && session->is_returning)
	{
		properties = frame->payload.properties.decoded;
		take_return(session, properties->message_id);
	}
	/* the body of what comes back is known */
}

/* Reads what is there. */
static void
read_frames(Session *session)
{
	struct timeval none = {0};
	amqp_frame_t frame;
	int			status;

	while (!session->end.is_over)
	{
		status = amqp_simple_wait_frame_noblock(session->connection, &frame, &none);
		if (status == AMQP_STATUS_TIMEOUT)
			break;
		if (obx_rabbitmq_end_by_status(&session->end, "the connection is lost", status))
			break;
		take_frame(session, &frame);
		if (!session->is_returning)
			amqp_maybe_release_buffers(session->connection);
	}
}

/* ---- publishing ---- */

static amqp_bytes_t
part_bytes(const ObxRabbitmqLetter *letter, ObxRabbitmqPart part)
{
	return (amqp_bytes_t)
	{
		.len = part.length,.bytes = letter->text.data + part.start
	};
}

static int
publish(Session *session, const ObxRabbitmqLetter *letter)
{
	amqp_table_entry_t headers[OBX_RABBITMQ_HEADERS];
	amqp_basic_properties_t properties = {
		._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
		AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG,
		.content_type = amqp_cstring_bytes(letter->content_type),
		.delivery_mode = AMQP_DELIVERY_PERSISTENT,
		.message_id = amqp_cstring_bytes(letter->id),
		.timestamp = letter->timestamp,
		.type = part_bytes(letter, letter->type),
		.correlation_id = part_bytes(letter, letter->correlation_id),
		.headers = {.num_entries = letter->nheaders,.entries = headers}
	};

	for (int i = 0; i < letter->nheaders; i++)
	{
		headers[i].key = part_bytes(letter, letter->headers[i].name);
		headers[i].value.kind = AMQP_FIELD_KIND_UTF8;
		headers[i].value.value.bytes = part_bytes(letter, letter->headers[i].value);
	}
	if (letter->nheaders > 0)
		properties._flags |= AMQP_BASIC_HEADERS_FLAG;
	if (letter->type.length > 0)
		properties._flags |= AMQP_BASIC_TYPE_FLAG;
	if (letter->correlation_id.length > 0)
		properties._flags |= AMQP_BASIC_CORRELATION_ID_FLAG;
	return amqp_basic_publish(session->connection, OBX_RABBITMQ_CHANNEL,
							  part_bytes(letter, letter->exchange),
							  part_bytes(letter, letter->routing_key),
							  session->rabbitmq->mandatory, 0, &properties,
							  part_bytes(letter, letter->body));
}

/* Takes the next letter, as soon as there is one that may be published. */
static ObxRabbitmqLetter *
take_letter(ObxRabbitmq *rabbitmq)
{
	ObxRabbitmqLetter *letter = NULL;

	pthread_mutex_lock(&rabbitmq->lock);
	if (rabbitmq->next <= rabbitmq->last && !rabbitmq->is_blocked && !rabbitmq->stopping)
	{
		letter = obx_rabbitmq_letter(rabbitmq, rabbitmq->next++);
		letter->fate = OBX_PUBLISHED;
		rabbitmq->unanswered++;
		rabbitmq->sending_since = obx_now();
	}
	pthread_mutex_unlock(&rabbitmq->lock);
	return letter;
}

/* The answer is read by this thread, so that the letter is not gone yet. */
static void
put_letter_down(ObxRabbitmq *rabbitmq, ObxRabbitmqLetter *letter)
{
	bool		makes_place;

	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->sending_since = 0;
	makes_place = rabbitmq->queued_bytes >= OBX_RABBITMQ_QUEUED / 2 &&
		rabbitmq->queued_bytes - letter->text.length < OBX_RABBITMQ_QUEUED / 2;
	rabbitmq->queued_bytes -= letter->text.length;
	if (letter->text.size > MOST_KEPT)
	{
		obx_text_free(&letter->text);
		obx_text_init(&letter->text);
	}
	obx_text_clear(&letter->text);
	if (makes_place)
		tell_loop(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
}

/* Returns whether there was one. */
static bool
publish_some(Session *session)
{
	ObxRabbitmq *rabbitmq = session->rabbitmq;
	ObxRabbitmqLetter *letter;
	size_t		bytes = 0;
	int			count = 0;

	while (count < BETWEEN_READS && bytes < BYTES_BETWEEN_READS && !session->end.is_over &&
		   (letter = take_letter(rabbitmq)) != NULL)
	{
		bytes += letter->text.length;
		obx_rabbitmq_end_by_status(&session->end, "the connection is lost", publish(session, letter));
		put_letter_down(rabbitmq, letter);
		count++;
	}
	return count > 0;
}

/* Until the broker says something, there is a letter, or a heartbeat is due. */
static void
wait_for_something(Session *session)
{
	ObxRabbitmq *rabbitmq = session->rabbitmq;
	struct pollfd descriptors[] = {
		{.fd = amqp_get_sockfd(session->connection),.events = POLLIN},
		{.fd = rabbitmq->to_thread,.events = POLLIN}
	};
	eventfd_t	unused;
	bool		sleeps;
	bool		soon;

	pthread_mutex_lock(&rabbitmq->lock);
	soon = rabbitmq->untold > 0;
	sleeps = !rabbitmq->stopping && (rabbitmq->next > rabbitmq->last || rabbitmq->is_blocked);
	rabbitmq->thread_sleeps = sleeps;
	pthread_mutex_unlock(&rabbitmq->lock);
	if (!sleeps)
		return;
	soon = poll(descriptors, 2, soon ? TELL_AFTER : rabbitmq->endpoint.heartbeat * 1000 / 4) == 0 && soon;
	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->thread_sleeps = false;
	if (soon)
	{
		rabbitmq->untold = 0;
		tell_loop(rabbitmq);
	}
	pthread_mutex_unlock(&rabbitmq->lock);
	if (descriptors[1].revents != 0)
		eventfd_read(rabbitmq->to_thread, &unused);
}

static bool
is_stopping(ObxRabbitmq *rabbitmq)
{
	bool		stopping;

	pthread_mutex_lock(&rabbitmq->lock);
	stopping = rabbitmq->stopping;
	pthread_mutex_unlock(&rabbitmq->lock);
	return stopping;
}

static void
work_session(Session *session)
{
	ObxRabbitmq *rabbitmq = session->rabbitmq;

	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->state = OBX_UP;
	rabbitmq->socket = amqp_get_sockfd(session->connection);
	rabbitmq->frame_size = amqp_get_frame_max(session->connection);
	tell_loop(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
	while (!session->end.is_over && !is_stopping(rabbitmq))
	{
		bool		busy = publish_some(session);

		if (!session->end.is_over)
			read_frames(session);
		if (!busy && !session->end.is_over)
			wait_for_something(session);
	}
}

/* The broker is told that we go, if it listens. */
static void
take_leave(Session *session)
{
	struct timeval timeout = {.tv_usec = GRACE};

	pthread_mutex_lock(&session->rabbitmq->lock);
	session->rabbitmq->socket = -1;
	pthread_mutex_unlock(&session->rabbitmq->lock);
	if (session->connection == NULL)
		return;
	if (!session->end.is_over)
	{
		amqp_set_rpc_timeout(session->connection, &timeout);
		amqp_connection_close(session->connection, AMQP_REPLY_SUCCESS);
	}
	amqp_destroy_connection(session->connection);
}

void *
obx_rabbitmq_session_run(void *context)
{
	ObxRabbitmq *rabbitmq = context;
	Session		session = {.rabbitmq = rabbitmq};
	bool		abandoned;

	session.connection = obx_rabbitmq_connect(&rabbitmq->endpoint, &session.end);
	if (!session.end.is_over)
		work_session(&session);
	take_leave(&session);
	pthread_mutex_lock(&rabbitmq->lock);
	rabbitmq->state = OBX_DOWN;
	rabbitmq->is_blocked = false;
	rabbitmq->has_ended = true;
	rabbitmq->end = session.end;
	if (session.end.most_bytes > 0)
		rabbitmq->most_bytes = session.end.most_bytes;
	abandoned = rabbitmq->abandoned;
	rabbitmq->loop_is_told = false;
	tell_loop(rabbitmq);
	pthread_mutex_unlock(&rabbitmq->lock);
	if (abandoned)
		obx_rabbitmq_free(rabbitmq);
	return NULL;
}
