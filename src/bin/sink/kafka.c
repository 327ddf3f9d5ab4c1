/*
 * The sink "kafka", by librdkafka.
 *
 * exactly-once: a transaction at a time, in which the record of progress lies
 * beside the events.  While it is committed, no message is taken; the relay
 * receives meanwhile.  What became of a transaction that cannot be told is found
 * in that record, once the sink is claimed anew.
 *
 * at-least-once: an idempotent producer, which keeps order; if a message fails,
 * none behind it is sent, and all that are not confirmed are sent again.
 */
#include "sink/sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "sink/kafka_client.h"
#include "sink/kafka_settings.h"

#define MOST_IN_TRANSACTION	10000	/* messages */
#define MOST_BYTES			(32 * 1024 * 1024)
#define MOST_SENT			65536	/* not confirmed; a power of two */
#define LONGEST_TOPIC		249

typedef struct Kafka
{
	ObxKafkaSettings settings;
	ObxKafkaClient *client;		/* once it is connected to */
	ObxKafkaJob wanted;			/* as soon as none is under way */
	char	   *progress_key;
	bool		is_ignoring;	/* the outcome of the job under way */
	bool		is_up;			/* can be sent to */
	char	   *found;			/* the progress that was told last */

	/* exactly once */
	bool		in_transaction;
	bool		is_full;		/* of what goes in one */
	bool		is_sealed;		/* being committed */
	char	   *unsent;			/* the record of progress, while the queue has
								 * no room for it */
	size_t		bytes;

	int			most;			/* messages at once */
	int64_t		newest;			/* the last ticket taken */
	int64_t		confirmed;		/* up to this one */
	int64_t		told;
	int64_t		forgotten;		/* up to this one */
	uint8_t		awaited[MOST_SENT]; /* deliveries, by ticket; at least once */

	bool		tells_up;		/* to be told */
	ObxKafkaOutcome outcome;	/* to be told, if there is a fault */
	ObxSinkResult rejection;	/* to be told, if ticket > 0 */

	ObxText		topic_text;
	ObxText		key_text;

	int64_t		commits;
	int64_t		aborts;
	int64_t		fenced;
} Kafka;

static void *
open_kafka(ObxConfig *config, ObxSinkTraits *traits)
{
	Kafka	   *sink = obx_allocate(sizeof(Kafka));

	if (!obx_kafka_settings_read(config, &sink->settings))
	{
		free(sink);
		return NULL;
	}
	obx_text_init(&sink->topic_text);
	obx_text_init(&sink->key_text);
	sink->most = sink->settings.is_transactional ? MOST_IN_TRANSACTION : MOST_SENT;
	traits->keeps_progress = sink->settings.is_transactional;
	traits->takes_parts = sink->settings.takes_parts;
	traits->columns = obx_template_columns(sink->settings.topic) |
		obx_template_columns(sink->settings.key) |
		(sink->settings.tombstones ? OBX_COLUMN_OPERATION : 0);
	return sink;
}

/* ---- what becomes of what was sent ---- */

/* Up to the first one that is not delivered. */
static void
advance(Kafka *sink)
{
	while (sink->confirmed < sink->newest &&
		   sink->awaited[(sink->confirmed + 1) & (MOST_SENT - 1)] == 0)
	{
		sink->confirmed++;
		if (sink->most < MOST_SENT)
			sink->most++;
	}
}

/* An ObxKafkaDelivered. */
static void
note_delivered(void *context, int64_t ticket)
{
	Kafka	   *sink = context;

	if (ticket > sink->forgotten && sink->awaited[ticket & (MOST_SENT - 1)] > 0)
		sink->awaited[ticket & (MOST_SENT - 1)]--;
}

static void
reject(Kafka *sink, int64_t ticket, const char *what, const char *why)
{
	sink->rejection = (ObxSinkResult)
	{
		OBX_NEVER, ticket, ""
	};
	snprintf(sink->rejection.text, sizeof(sink->rejection.text), "%s: %s", what, why);
}

/* None of it is awaited any more. */
static void
forget_sent(Kafka *sink)
{
	sink->in_transaction = sink->is_full = sink->is_sealed = false;
	free(sink->unsent);
	sink->unsent = NULL;
	sink->bytes = 0;
	sink->forgotten = sink->confirmed = sink->told = sink->newest;
	memset(sink->awaited, 0, sizeof(sink->awaited));
}

/* The handle is of no use any more, or what it has is not wanted. */
static void
forget_kafka(void *context)
{
	Kafka	   *sink = context;

	if (sink->client != NULL)
	{
		sink->is_ignoring = obx_kafka_client_is_busy(sink->client);
		obx_kafka_client_forget(sink->client);
	}
	if (sink->in_transaction)
		sink->is_up = false;
	sink->rejection.ticket = 0;
	sink->outcome.fault = OBX_KAFKA_NO_FAULT;
	sink->tells_up = false;
	forget_sent(sink);
}

/*
 * A failure that has to do with how much was sent at once: the half is tried.
 * Is it one message alone that fails, and by its fault, so it is rejected.
 */
static void
take_less(Kafka *sink, const ObxKafkaOutcome *outcome)
{
	int64_t		count = sink->newest - sink->confirmed;

	if (outcome->fault == OBX_KAFKA_MESSAGE && count == 1 && outcome->ticket == sink->newest)
	{
		reject(sink, outcome->ticket, "kafka", outcome->text);
		sink->in_transaction = sink->is_full = sink->is_sealed = false;
		sink->awaited[outcome->ticket & (MOST_SENT - 1)] = 0;
		sink->confirmed = sink->newest;
	}
	else
	{
		sink->outcome = *outcome;
		sink->most = count > 1 ? count / 2 : 1;
	}
	/* behind a gap, an idempotent producer sends nothing */
	if (!sink->settings.is_transactional || !outcome->is_usable)
	{
		sink->is_up = false;
		sink->wanted = sink->settings.is_transactional ? OBX_KAFKA_CLAIM : OBX_KAFKA_CONNECT;
	}
}

static void
take_fault(Kafka *sink, const ObxKafkaOutcome *outcome)
{
	bool		is_divisible = outcome->fault == OBX_KAFKA_MESSAGE || outcome->fault == OBX_KAFKA_SLOW;

	if (outcome->job == OBX_KAFKA_COMMIT)
		sink->aborts++;
	if (outcome->fault == OBX_KAFKA_FENCED)
		sink->fenced++;
	/* of a record that is too large, others are no cause */
	if (is_divisible && outcome->ticket > sink->forgotten &&
		(outcome->is_usable || !sink->settings.is_transactional))
	{
		take_less(sink, outcome);
		return;
	}
	sink->outcome = *outcome;
	sink->is_up = false;
}

static void
take_outcome(Kafka *sink, ObxKafkaOutcome *outcome)
{
	bool		ignored = sink->is_ignoring && outcome->job != OBX_KAFKA_NO_JOB;

	if (outcome->job != OBX_KAFKA_NO_JOB)
		sink->is_ignoring = false;
	if (ignored)
	{
		free(outcome->progress);
		return;
	}
	if (outcome->fault != OBX_KAFKA_NO_FAULT)
	{
		take_fault(sink, outcome);
		return;
	}
	if (outcome->job == OBX_KAFKA_COMMIT)
	{
		sink->commits++;
		sink->confirmed = sink->newest;
		if (sink->most < MOST_IN_TRANSACTION)
			sink->most = 2 * sink->most < MOST_IN_TRANSACTION ? 2 * sink->most : MOST_IN_TRANSACTION;
		sink->in_transaction = sink->is_full = sink->is_sealed = false;
		sink->bytes = 0;
		return;
	}
	free(sink->found);
	sink->found = outcome->progress;
	sink->is_up = !sink->settings.is_transactional || outcome->job == OBX_KAFKA_CLAIM;
	sink->tells_up = true;
	sink->outcome.job = outcome->job;
}

/* The record of progress is a message of the transaction, and the last one. */
static void
end_transaction(Kafka *sink)
{
	rd_kafka_resp_err_t error;

	error = rd_kafka_producev(obx_kafka_client_handle(sink->client),
							  RD_KAFKA_V_TOPIC(sink->settings.progress_topic),
							  RD_KAFKA_V_PARTITION(0),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_KEY(sink->progress_key, strlen(sink->progress_key)),
							  RD_KAFKA_V_VALUE(sink->unsent, strlen(sink->unsent)),
							  RD_KAFKA_V_END);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return;
	free(sink->unsent);
	sink->unsent = NULL;
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		obx_kafka_client_start(sink->client, OBX_KAFKA_COMMIT, NULL);
		return;
	}
	sink->outcome = (ObxKafkaOutcome)
	{
		.fault = obx_kafka_fault_of(error) == OBX_KAFKA_MESSAGE ? OBX_KAFKA_DENIED : obx_kafka_fault_of(error)
	};
	snprintf(sink->outcome.text, sizeof(sink->outcome.text), "%s: %s", sink->settings.progress_topic,
			 rd_kafka_err2str(error));
}

static void
work_kafka(void *context)
{
	Kafka	   *sink = context;
	ObxKafkaOutcome outcome;

	if (sink->client == NULL)
		return;
	while (sink->outcome.fault == OBX_KAFKA_NO_FAULT && sink->rejection.ticket == 0 &&
		   obx_kafka_client_work(sink->client, &outcome))
		take_outcome(sink, &outcome);
	if (!sink->settings.is_transactional)
		advance(sink);
	if (sink->unsent != NULL && sink->outcome.fault == OBX_KAFKA_NO_FAULT)
		end_transaction(sink);
	if (sink->wanted != OBX_KAFKA_NO_JOB && !obx_kafka_client_is_busy(sink->client))
	{
		obx_kafka_client_start(sink->client, sink->wanted, sink->progress_key);
		sink->wanted = OBX_KAFKA_NO_JOB;
	}
}

/* ---- sending ---- */

static bool
is_topic_name(const ObxText *name)
{
	return name->length > 0 && name->length <= LONGEST_TOPIC && strcmp(name->data, ".") != 0 &&
		strcmp(name->data, "..") != 0 &&
		strspn(name->data, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		name->length;
}

/* An ObxAttributeFunction. */
static void
add_attribute(void *context, const char *name, const char *value)
{
	rd_kafka_headers_t *headers = context;
	char		header[40] = "ce_";

	strcpy(header + 3, name);
	rd_kafka_header_add(headers, header, -1, value, -1);
}

static rd_kafka_headers_t *
make_headers(const Kafka *sink, const ObxMessage *message)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(14);

	if (message->form == OBX_FORM_CLOUDEVENTS && sink->settings.takes_parts)
		obx_event_attributes(message->event, message->generations, add_attribute, headers);
	else if (message->form != OBX_FORM_CLOUDEVENTS)
		rd_kafka_header_add(headers, "id", -1, message->id, -1);
	rd_kafka_header_add(headers, "content-type", -1,
						message->form == OBX_FORM_CLOUDEVENTS && !sink->settings.takes_parts ?
						"application/cloudevents+json; charset=UTF-8" : "application/json", -1);
	return headers;
}

/* A body of NULL is a tombstone. */
static rd_kafka_resp_err_t
produce(Kafka *sink, const ObxMessage *message, bool has_key, const char *body, size_t length)
{
	rd_kafka_headers_t *headers = make_headers(sink, message);
	rd_kafka_resp_err_t error;

	error = rd_kafka_producev(obx_kafka_client_handle(sink->client),
							  RD_KAFKA_V_TOPIC(sink->topic_text.data),
							  RD_KAFKA_V_PARTITION(RD_KAFKA_PARTITION_UA),
							  RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							  RD_KAFKA_V_KEY(has_key ? sink->key_text.data : NULL,
											 has_key ? sink->key_text.length : 0),
							  RD_KAFKA_V_VALUE((void *) body, length),
							  RD_KAFKA_V_HEADERS(headers),
							  RD_KAFKA_V_OPAQUE((void *) (intptr_t) message->ticket),
							  RD_KAFKA_V_END);
	if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_headers_destroy(headers);
	return error;
}

/* False: it cannot be taken now.  What can never be is rejected. */
static bool
take_message(Kafka *sink, const ObxMessage *message)
{
	uint8_t    *awaited = &sink->awaited[message->ticket & (MOST_SENT - 1)];
	bool		has_key;
	bool		has_tombstone;
	const char *missing;
	rd_kafka_resp_err_t error;

	obx_text_clear(&sink->topic_text);
	obx_text_clear(&sink->key_text);
	if (!obx_template_append(&sink->topic_text, sink->settings.topic, message->event, &missing))
	{
		reject(sink, message->ticket, "the topic needs what the event does not have", missing);
		return true;
	}
	if (!is_topic_name(&sink->topic_text))
	{
		reject(sink, message->ticket, "this is no name of a topic", sink->topic_text.data);
		return true;
	}
	has_key = obx_template_append(&sink->key_text, sink->settings.key, message->event, &missing);
	has_tombstone = sink->settings.tombstones && has_key && message->event->operation != NULL &&
		message->event->operation[0] == 'd';
	error = produce(sink, message, has_key, message->body, message->length);
	if (error == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		return false;
	if (obx_kafka_fault_of(error) == OBX_KAFKA_MESSAGE)
	{
		reject(sink, message->ticket, sink->topic_text.data, rd_kafka_err2str(error));
		return true;
	}
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		*awaited = !sink->settings.is_transactional;
		if (has_tombstone && produce(sink, message, true, NULL, 0) == RD_KAFKA_RESP_ERR_NO_ERROR)
			*awaited += !sink->settings.is_transactional;
		else if (has_tombstone)
			error = RD_KAFKA_RESP_ERR__QUEUE_FULL;
	}
	if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	sink->outcome = (ObxKafkaOutcome)
	{
		.fault = obx_kafka_fault_of(error)
	};
	snprintf(sink->outcome.text, sizeof(sink->outcome.text), "%s: %s", sink->topic_text.data,
			 rd_kafka_err2str(error));
	return false;
}

static bool
begin(Kafka *sink)
{
	rd_kafka_error_t *error;

	if (!sink->settings.is_transactional || sink->in_transaction)
		return true;
	error = rd_kafka_begin_transaction(obx_kafka_client_handle(sink->client));
	if (error == NULL)
	{
		sink->in_transaction = true;
		return true;
	}
	sink->outcome = (ObxKafkaOutcome)
	{
		.fault = obx_kafka_fault_of(rd_kafka_error_code(error))
	};
	snprintf(sink->outcome.text, sizeof(sink->outcome.text), "could not begin a transaction: %s",
			 rd_kafka_error_string(error));
	rd_kafka_error_destroy(error);
	return false;
}

static bool
send_kafka(void *context, const ObxMessage *message)
{
	Kafka	   *sink = context;

	if (!sink->is_up || sink->is_sealed || sink->is_full || sink->rejection.ticket > 0 ||
		sink->outcome.fault != OBX_KAFKA_NO_FAULT ||
		sink->newest - sink->confirmed >= sink->most || !begin(sink) ||
		!take_message(sink, message))
		return false;
	sink->newest = message->ticket;
	sink->bytes += message->length;
	sink->is_full = sink->settings.is_transactional && sink->bytes > MOST_BYTES;
	return true;
}

static void
seal_kafka(void *context, const char *progress)
{
	Kafka	   *sink = context;

	if (!sink->in_transaction || sink->is_sealed)
		return;
	sink->is_sealed = true;
	sink->unsent = obx_copy_string(progress);
	end_transaction(sink);
}

/* ---- connecting, results ---- */

static void
connect_kafka(void *context)
{
	Kafka	   *sink = context;

	if (sink->client == NULL)
	{
		ObxKafkaOptions options = {
			.conf = sink->settings.conf,.progress_topic = sink->settings.is_transactional ? sink->settings.progress_topic : NULL
		};

		sink->client = obx_kafka_client_open(&options, sink->settings.is_transactional ? NULL : note_delivered, sink);
		sink->settings.conf = NULL;
	}
	forget_kafka(sink);
	sink->is_up = false;
	sink->wanted = OBX_KAFKA_CONNECT;
	work_kafka(sink);
}

static void
claim_kafka(void *context, const char *key)
{
	Kafka	   *sink = context;

	forget_kafka(sink);
	sink->is_up = false;
	free(sink->progress_key);
	sink->progress_key = obx_copy_string(key);
	sink->wanted = OBX_KAFKA_CLAIM;
	work_kafka(sink);
}

static ObxVerdict
verdict_of(const ObxKafkaOutcome *outcome)
{
	switch (outcome->fault)
	{
		case OBX_KAFKA_FENCED:
			return OBX_FENCED;
		case OBX_KAFKA_DENIED:
			return OBX_REFUSED;
		case OBX_KAFKA_MESSAGE:
			/* the record of progress */
			if (outcome->ticket == 0)
				return OBX_REFUSED;
			return OBX_AGAIN;
		case OBX_KAFKA_SLOW:
			return outcome->ticket > 0 && outcome->is_usable ? OBX_AGAIN : OBX_LATER;
		default:
			return OBX_LATER;
	}
}

static bool
tell_fault(Kafka *sink, ObxSinkResult *result)
{
	*result = (ObxSinkResult)
	{
		verdict_of(&sink->outcome), 0, ""
	};
	snprintf(result->text, sizeof(result->text), "%s", sink->outcome.text);
	sink->outcome.fault = OBX_KAFKA_NO_FAULT;
	if (result->verdict != OBX_AGAIN)
		sink->is_up = sink->tells_up = false;
	forget_sent(sink);
	return true;
}

static bool
tell_result(void *context, ObxSinkResult *result)
{
	Kafka	   *sink = context;

	/* before what is behind it is confirmed */
	if (sink->rejection.ticket > 0)
	{
		*result = sink->rejection;
		sink->rejection.ticket = 0;
		return true;
	}
	if (sink->told < sink->confirmed)
	{
		*result = (ObxSinkResult)
		{
			OBX_CONFIRMED, sink->confirmed, ""
		};
		sink->told = sink->confirmed;
		return true;
	}
	if (sink->outcome.fault != OBX_KAFKA_NO_FAULT)
		return tell_fault(sink, result);
	if (!sink->tells_up)
		return false;
	sink->tells_up = false;
	*result = (ObxSinkResult)
	{
		sink->outcome.job == OBX_KAFKA_CLAIM ? OBX_CLAIMED : OBX_CONNECTED, 0, ""
	};
	result->progress = sink->found;
	return true;
}

static int
wait_for_kafka(void *context, struct pollfd *descriptors, int max, int64_t * until)
{
	Kafka	   *sink = context;

	if (sink->tells_up || sink->outcome.fault != OBX_KAFKA_NO_FAULT || sink->rejection.ticket > 0 ||
		sink->told < sink->confirmed)
		*until = 0;
	if (sink->unsent != NULL && *until > obx_now() + 10 * OBX_MILLISECOND)
		*until = obx_now() + 10 * OBX_MILLISECOND;
	if (sink->client == NULL || max < 1)
		return 0;
	descriptors[0] = (struct pollfd)
	{
		.fd = obx_kafka_client_descriptor(sink->client),.events = POLLIN
	};
	return 1;
}

static void
give_metrics(void *context, ObxMetricFunction give, void *to)
{
	Kafka	   *sink = context;

	if (!sink->settings.is_transactional)
		return;
	give(to, "kafka_transactions_total", "counter", sink->commits);
	give(to, "kafka_transactions_failed_total", "counter", sink->aborts);
	give(to, "kafka_fenced_total", "counter", sink->fenced);
}

static void
close_kafka(void *context)
{
	Kafka	   *sink = context;

	if (sink->client != NULL)
		obx_kafka_client_close(sink->client);
	obx_text_free(&sink->topic_text);
	obx_text_free(&sink->key_text);
	obx_kafka_settings_free(&sink->settings);
	free(sink->progress_key);
	free(sink->found);
	free(sink->unsent);
	free(sink);
}

const ObxSinkModule obx_sink = {
	.interface = OBX_SINK_INTERFACE,
	.name = "kafka",
	.open = open_kafka,
	.connect = connect_kafka,
	.claim = claim_kafka,
	.send = send_kafka,
	.seal = seal_kafka,
	.wait_for = wait_for_kafka,
	.work = work_kafka,
	.result = tell_result,
	.forget = forget_kafka,
	.close = close_kafka,
	.metrics = give_metrics
};
