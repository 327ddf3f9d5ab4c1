/*
 * A producer of Kafka, and the thread that waits for it.
 */
#include "sink/kafka_client.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "sink/kafka_progress.h"

#define SLICE				1000	/* milliseconds; then it looks whether to
									 * go on */
#define LONGEST_CONNECT		(15 * OBX_SECOND)
#define LONGEST_CLAIM		(60 * OBX_SECOND)
#define LONGEST_COMMIT		(60 * OBX_SECOND)

struct ObxKafkaClient
{
	ObxKafkaOptions options;
	ObxKafkaDelivered delivered;
	void	   *context;
	int			descriptor;

	pthread_t	thread;
	pthread_mutex_t lock;		/* for these: */
	pthread_cond_t wake;
	ObxKafkaJob job;			/* to be done, or under way */
	bool		done;			/* its outcome is there */
	ObxKafkaOutcome outcome;
	_Atomic bool closing;

	/* of whose the handle is */
	rd_kafka_t *handle;
	char	   *key;

	/* what callbacks have said; whoever polls has it */
	ObxKafkaFault fault;		/* of the handle or a message */
	int64_t		ticket;
	char text[	300];
	bool		is_down;		/* no broker is there */
	bool		is_fatal;
};

/* ---- errors ---- */

ObxKafkaFault
obx_kafka_fault_of(rd_kafka_resp_err_t error)
{
	switch (error)
	{
		case RD_KAFKA_RESP_ERR_NO_ERROR:
			return OBX_KAFKA_NO_FAULT;
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
			return OBX_KAFKA_MESSAGE;
		case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
			return OBX_KAFKA_SLOW;
		case RD_KAFKA_RESP_ERR__FENCED:
		case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
		case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
			return OBX_KAFKA_FENCED;
		case RD_KAFKA_RESP_ERR__AUTHENTICATION:
		case RD_KAFKA_RESP_ERR__SSL:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR__INVALID_ARG:
		case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
		case RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
		case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
		case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
		case RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
		case RD_KAFKA_RESP_ERR_INVALID_CONFIG:
			return OBX_KAFKA_DENIED;
		default:
			return OBX_KAFKA_DOWN;
	}
}

/* It is not the cause, but follows from one. */
static bool
is_consequence(rd_kafka_resp_err_t error)
{
	return error == RD_KAFKA_RESP_ERR__PURGE_QUEUE || error == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
		error == RD_KAFKA_RESP_ERR__FATAL || error == RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE;
}

/* The first one counts. */
static void
note_fault(ObxKafkaClient *client, ObxKafkaFault fault, int64_t ticket, const char *what,
		   const char *why)
{
	if (client->fault != OBX_KAFKA_NO_FAULT)
		return;
	client->fault = fault;
	client->ticket = ticket;
	snprintf(client->text, sizeof(client->text), "%s%s%s", what, what[0] != '\0' ? ": " : "", why);
}

static void
forget_faults(ObxKafkaClient *client)
{
	client->fault = OBX_KAFKA_NO_FAULT;
	client->ticket = 0;
	client->text[0] = '\0';
	client->is_down = client->is_fatal = false;
}

/* ---- callbacks: of whoever polls ---- */

static void
hear_delivery(rd_kafka_t * handle, const rd_kafka_message_t * message, void *opaque)
{
	ObxKafkaClient *client = opaque;
	int64_t		ticket = (intptr_t) message->_private;

	(void) handle;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (client->delivered != NULL)
			client->delivered(client->context, ticket);
	}
	else if (!is_consequence(message->err))
		note_fault(client, obx_kafka_fault_of(message->err), ticket,
				   rd_kafka_topic_name(message->rkt), rd_kafka_err2str(message->err));
}

/* What it cannot repair for good is a fault; that it tries again is not. */
static void
hear_error(rd_kafka_t * handle, int error, const char *reason, void *opaque)
{
	ObxKafkaClient *client = opaque;
	char		fatal[300];
	char		said[300];
	const char *after = strstr(reason, " (after ");
	int			length = after != NULL ? (int) (after - reason) : (int) strlen(reason);

	/* how long it took makes it another message each time */
	snprintf(said, sizeof(said), "%.*s", length, reason);
	if (error == RD_KAFKA_RESP_ERR__FATAL)
	{
		rd_kafka_resp_err_t cause = rd_kafka_fatal_error(handle, fatal, sizeof(fatal));

		client->is_fatal = true;
		if (!is_consequence(cause))
			note_fault(client, obx_kafka_fault_of(cause), 0, "", fatal);
	}
	else if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		client->is_down = true;
	else if (obx_kafka_fault_of(error) == OBX_KAFKA_DENIED)
		note_fault(client, OBX_KAFKA_DENIED, 0, "", said);
	else if (client->fault == OBX_KAFKA_NO_FAULT)
		snprintf(client->text, sizeof(client->text), "%s", said);
}

/* Threads of the library; broken connections are told by hear_error(). */
static void
hear_log(const rd_kafka_t * handle, int level, const char *facility, const char *text)
{
	(void) handle;
	if (level <= 3 && strcmp(facility, "FAIL") != 0 && strcmp(facility, "ERROR") != 0)
		obx_warn("librdkafka: %s: %s", facility, text);
}

/* ---- handles ---- */

static void
destroy_handle(ObxKafkaClient *client)
{
	if (client->handle == NULL)
		return;
	rd_kafka_purge(client->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
	rd_kafka_destroy(client->handle);
	client->handle = NULL;
	forget_faults(client);
}

/* "pg_outbox." and the key, with a dot between its parts. */
static void
set_transactional_id(rd_kafka_conf_t * conf, const char *key)
{
	char		id[300];
	char	   *slash;

	snprintf(id, sizeof(id), "pg_outbox.%s", key);
	slash = strchr(id, '/');
	if (slash != NULL)
		*slash = '.';
	rd_kafka_conf_set(conf, "transactional.id", id, NULL, 0);
}

static bool
make_handle(ObxKafkaClient *client, const char *key, ObxKafkaOutcome *outcome)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(client->options.conf);
	static const uint64_t one = 1;
	rd_kafka_queue_t *queue;
	char		why[300];

	destroy_handle(client);
	rd_kafka_conf_set_opaque(conf, client);
	rd_kafka_conf_set_error_cb(conf, hear_error);
	rd_kafka_conf_set_dr_msg_cb(conf, hear_delivery);
	/* of offsets, the end is what anybody has written */
	rd_kafka_conf_set(conf, "isolation.level", "read_uncommitted", NULL, 0);
	if (key != NULL)
		set_transactional_id(conf, key);
	if (client->options.progress_topic != NULL)
		rd_kafka_conf_set(conf, "delivery.report.only.error", "true", NULL, 0);
	else
		rd_kafka_conf_set(conf, "enable.gapless.guarantee", "true", NULL, 0);
	client->handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (client->handle == NULL)
	{
		rd_kafka_conf_destroy(conf);
		outcome->fault = OBX_KAFKA_DENIED;
		snprintf(outcome->text, sizeof(outcome->text), "%s", why);
		return false;
	}
	queue = rd_kafka_queue_get_main(client->handle);
	rd_kafka_queue_io_event_enable(queue, client->descriptor, &one, sizeof(one));
	rd_kafka_queue_destroy(queue);
	return true;
}

/* ---- jobs: in the thread ---- */

static void
fail_by(ObxKafkaOutcome *outcome, ObxKafkaFault fault, const char *what, const char *why)
{
	outcome->fault = fault;
	snprintf(outcome->text, sizeof(outcome->text), "%s%s%s", what, what[0] != '\0' ? ": " : "", why);
}

/* What the callbacks have heard is a better reason, if there is one. */
static void
fail(ObxKafkaClient *client, ObxKafkaOutcome *outcome, rd_kafka_resp_err_t error, const char *what,
	 const char *why)
{
	if (client->fault == OBX_KAFKA_DENIED || client->fault == OBX_KAFKA_FENCED)
		fail_by(outcome, client->fault, what, client->text);
	else
		fail_by(outcome, obx_kafka_fault_of(error), what, client->text[0] != '\0' ? client->text : why);
	if (outcome->fault != OBX_KAFKA_DENIED && outcome->fault != OBX_KAFKA_FENCED)
		outcome->fault = OBX_KAFKA_DOWN;
}

/* Nothing that goes on can be waited for any longer. */
static bool
is_over(ObxKafkaClient *client, int64_t until)
{
	while (rd_kafka_poll(client->handle, 0) > 0)
		continue;
	return client->closing || client->is_down || client->fault == OBX_KAFKA_DENIED ||
		obx_now() > until;
}

static void
connect_handle(ObxKafkaClient *client, ObxKafkaOutcome *outcome)
{
	int64_t		until = obx_now() + LONGEST_CONNECT;
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t error;

	if (!make_handle(client, NULL, outcome))
		return;
	do
	{
		error = rd_kafka_metadata(client->handle, 0, NULL, &metadata, SLICE);
		if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			rd_kafka_metadata_destroy(metadata);
			return;
		}
	} while (!is_over(client, until));
	fail(client, outcome, error, "no connection to Kafka", rd_kafka_err2str(error));
}

static bool
init_transactions(ObxKafkaClient *client, ObxKafkaOutcome *outcome, int64_t until)
{
	for (;;)
	{
		rd_kafka_error_t *error = rd_kafka_init_transactions(client->handle, 5 * SLICE);

		if (error == NULL)
			return true;
		if (!rd_kafka_error_is_retriable(error) || is_over(client, until))
		{
			fail(client, outcome, rd_kafka_error_code(error), "could not begin with transactions",
				 rd_kafka_error_string(error));
			rd_kafka_error_destroy(error);
			return false;
		}
		rd_kafka_error_destroy(error);
	}
}

static void
claim(ObxKafkaClient *client, ObxKafkaOutcome *outcome)
{
	int64_t		until = obx_now() + LONGEST_CLAIM;
	ObxKafkaProgress progress = {
		.producer = NULL,.conf = client->options.conf,.topic = client->options.progress_topic,
		.key = client->key,.until = until,.give_up = &client->closing
	};
	rd_kafka_resp_err_t error;

	if (!make_handle(client, client->key, outcome))
		return;
	progress.producer = client->handle;
	if (!obx_kafka_progress_prepare(&progress, &error))
		fail(client, outcome, error, "", progress.why);
	else if (init_transactions(client, outcome, until) &&
			 !obx_kafka_progress_read(&progress, &outcome->progress, &error))
		fail(client, outcome, error, "", progress.why);
}

/* The cause of a transaction that is undone. */
static void
take_cause(ObxKafkaClient *client, ObxKafkaOutcome *outcome, const char *why)
{
	outcome->ticket = client->ticket;
	fail_by(outcome, client->fault != OBX_KAFKA_NO_FAULT ? client->fault : OBX_KAFKA_DOWN,
			"a transaction was aborted", client->text[0] != '\0' ? client->text : why);
}

static void
undo(ObxKafkaClient *client, ObxKafkaOutcome *outcome, const char *why, int64_t until)
{
	rd_kafka_error_t *error;

	take_cause(client, outcome, why);
	for (;;)
	{
		error = rd_kafka_abort_transaction(client->handle, SLICE);
		if (error == NULL)
			break;
		if (!rd_kafka_error_is_retriable(error) || is_over(client, until))
		{
			if (obx_kafka_fault_of(rd_kafka_error_code(error)) == OBX_KAFKA_FENCED)
				fail_by(outcome, OBX_KAFKA_FENCED, "", rd_kafka_error_string(error));
			rd_kafka_error_destroy(error);
			return;
		}
		rd_kafka_error_destroy(error);
	}
	outcome->is_usable = true;
	forget_faults(client);
}

/* Until it is known what became of it, or that this cannot be known for now. */
static void
commit(ObxKafkaClient *client, ObxKafkaOutcome *outcome)
{
	int64_t		until = obx_now() + LONGEST_COMMIT;

	for (;;)
	{
		rd_kafka_error_t *error = rd_kafka_commit_transaction(client->handle, SLICE);
		bool		is_retriable;

		if (error == NULL)
			return;
		is_retriable = rd_kafka_error_is_retriable(error);
		if (rd_kafka_error_txn_requires_abort(error))
			undo(client, outcome, rd_kafka_error_string(error), until);
		else if (!is_retriable || is_over(client, until))
			fail(client, outcome, rd_kafka_error_code(error), "could not commit to Kafka",
				 rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
		if (outcome->fault != OBX_KAFKA_NO_FAULT)
			return;
	}
}

static void *
work_in_thread(void *context)
{
	ObxKafkaClient *client = context;
	static const uint64_t one = 1;

	pthread_mutex_lock(&client->lock);
	for (;;)
	{
		ObxKafkaOutcome outcome = {.job = client->job};

		if (client->closing)
			break;
		if (client->job == OBX_KAFKA_NO_JOB || client->done)
		{
			pthread_cond_wait(&client->wake, &client->lock);
			continue;
		}
		pthread_mutex_unlock(&client->lock);
		if (outcome.job == OBX_KAFKA_CONNECT)
			connect_handle(client, &outcome);
		else if (outcome.job == OBX_KAFKA_CLAIM)
			claim(client, &outcome);
		else
			commit(client, &outcome);
		pthread_mutex_lock(&client->lock);
		client->outcome = outcome;
		client->done = true;
		if (write(client->descriptor, &one, sizeof(one)) < 0)
			client->done = true;
	}
	pthread_mutex_unlock(&client->lock);
	destroy_handle(client);
	return NULL;
}

/* ---- the caller's side ---- */

ObxKafkaClient *
obx_kafka_client_open(const ObxKafkaOptions *options, ObxKafkaDelivered delivered, void *context)
{
	ObxKafkaClient *client = obx_allocate(sizeof(ObxKafkaClient));

	client->options = *options;
	rd_kafka_conf_set_log_cb(client->options.conf, hear_log);
	client->delivered = delivered;
	client->context = context;
	client->descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	pthread_mutex_init(&client->lock, NULL);
	pthread_cond_init(&client->wake, NULL);
	if (client->descriptor < 0 ||
		pthread_create(&client->thread, NULL, work_in_thread, client) != 0)
		obx_die(OBX_EXIT_ERROR, "could not start a thread for Kafka: %s", strerror(errno));
	return client;
}

void
obx_kafka_client_close(ObxKafkaClient *client)
{
	struct timespec until;

	pthread_mutex_lock(&client->lock);
	client->closing = true;
	pthread_cond_signal(&client->wake);
	pthread_mutex_unlock(&client->lock);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 5;
	/* one that hangs is left alone: the process is about to end */
	if (pthread_timedjoin_np(client->thread, NULL, &until) != 0)
		return;
	rd_kafka_conf_destroy(client->options.conf);
	close(client->descriptor);
	pthread_mutex_destroy(&client->lock);
	pthread_cond_destroy(&client->wake);
	free(client->outcome.progress);
	free(client->key);
	free(client);
}

int
obx_kafka_client_descriptor(const ObxKafkaClient *client)
{
	return client->descriptor;
}

bool
obx_kafka_client_is_busy(ObxKafkaClient *client)
{
	bool		busy;

	pthread_mutex_lock(&client->lock);
	busy = client->job != OBX_KAFKA_NO_JOB;
	pthread_mutex_unlock(&client->lock);
	return busy;
}

void
obx_kafka_client_start(ObxKafkaClient *client, ObxKafkaJob job, const char *key)
{
	if (key != NULL)
	{
		free(client->key);
		client->key = obx_copy_string(key);
	}
	pthread_mutex_lock(&client->lock);
	client->job = job;
	client->done = false;
	pthread_cond_signal(&client->wake);
	pthread_mutex_unlock(&client->lock);
}

rd_kafka_t *
obx_kafka_client_handle(ObxKafkaClient *client)
{
	return client->handle;
}

/* The job's, once; its memory is the caller's. */
static bool
take_outcome(ObxKafkaClient *client, ObxKafkaOutcome *outcome)
{
	bool		done;

	pthread_mutex_lock(&client->lock);
	done = client->job != OBX_KAFKA_NO_JOB && client->done;
	if (done)
	{
		*outcome = client->outcome;
		client->outcome.progress = NULL;
		client->job = OBX_KAFKA_NO_JOB;
		client->done = false;
	}
	pthread_mutex_unlock(&client->lock);
	return done;
}

bool
obx_kafka_client_work(ObxKafkaClient *client, ObxKafkaOutcome *outcome)
{
	uint64_t	count;

	if (read(client->descriptor, &count, sizeof(count)) < 0)
		count = 0;
	if (take_outcome(client, outcome))
		return true;
	if (obx_kafka_client_is_busy(client) || client->handle == NULL)
		return false;
	while (rd_kafka_poll(client->handle, 0) > 0)
		continue;
	if (client->fault == OBX_KAFKA_NO_FAULT && !client->is_down && !client->is_fatal)
		return false;
	memset(outcome, 0, sizeof(*outcome));
	outcome->fault = client->fault != OBX_KAFKA_NO_FAULT ? client->fault : OBX_KAFKA_DOWN;
	outcome->ticket = client->ticket;
	snprintf(outcome->text, sizeof(outcome->text), "%s",
			 client->text[0] != '\0' ? client->text : "no broker of Kafka can be reached");

	/*
	 * an aborted transaction's messages leave a transactional handle as it
	 * was
	 */
	forget_faults(client);
	return true;
}

void
obx_kafka_client_forget(ObxKafkaClient *client)
{
	if (client->handle != NULL && !obx_kafka_client_is_busy(client))
		rd_kafka_purge(client->handle, RD_KAFKA_PURGE_F_QUEUE);
}
