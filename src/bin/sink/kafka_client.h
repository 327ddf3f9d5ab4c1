/*
 * A producer of Kafka, and a thread for what librdkafka does not do without
 * waiting: connecting, claiming, committing.
 *
 * While a job is under way the handle is the thread's; else it is the caller's.
 */
#ifndef OBX_BIN_KAFKA_CLIENT_H
#define OBX_BIN_KAFKA_CLIENT_H

#include <librdkafka/rdkafka.h>

#include "sink/sink.h"

typedef struct ObxKafkaClient ObxKafkaClient;

typedef struct ObxKafkaOptions
{
	rd_kafka_conf_t *conf;		/* the client takes it */
	const char *progress_topic; /* NULL: no transactions */
} ObxKafkaOptions;

typedef enum ObxKafkaJob
{
	OBX_KAFKA_NO_JOB,
	OBX_KAFKA_CONNECT,			/* a handle without transactions */
	OBX_KAFKA_CLAIM,			/* one with them; others are shut out */
	OBX_KAFKA_COMMIT
} ObxKafkaJob;

/* What a failed message, or transaction, is a reason for. */
typedef enum ObxKafkaFault
{
	OBX_KAFKA_NO_FAULT,
	OBX_KAFKA_DOWN,				/* later */
	OBX_KAFKA_SLOW,				/* less at once may go */
	OBX_KAFKA_MESSAGE,			/* it is about a message of these */
	OBX_KAFKA_DENIED,			/* a person must repair it */
	OBX_KAFKA_FENCED
} ObxKafkaFault;

/* What became of a job, or of messages. */
typedef struct ObxKafkaOutcome
{
	ObxKafkaJob job;
	ObxKafkaFault fault;
	bool		is_usable;		/* after a fault: of the handle */
	int64_t		ticket;			/* whose message failed; 0: none's */
	char text[	400];
	char	   *progress;		/* CLAIM: the record, to be freed, or NULL */
} ObxKafkaOutcome;

/*
 * Called for each message that is delivered, by whoever polls, if the client
 * has no transactions.
 */
typedef void (*ObxKafkaDelivered) (void *context, int64_t ticket);

extern ObxKafkaClient *obx_kafka_client_open(const ObxKafkaOptions *options,
											 ObxKafkaDelivered delivered, void *context);

/* Waits a little for a job under way. */
extern void obx_kafka_client_close(ObxKafkaClient *client);

/* Readable when there is something to do. */
extern int	obx_kafka_client_descriptor(const ObxKafkaClient *client);

extern bool obx_kafka_client_is_busy(ObxKafkaClient *client);

/* None may be under way.  "key" is that of the progress, for CLAIM. */
extern void obx_kafka_client_start(ObxKafkaClient *client, ObxKafkaJob job, const char *key);

/* The handle; NULL if there is none. */
extern rd_kafka_t * obx_kafka_client_handle(ObxKafkaClient *client);

/*
 * The outcome of the job, or while none is under way what went wrong since.
 * False: nothing to tell.
 */
extern bool obx_kafka_client_work(ObxKafkaClient *client, ObxKafkaOutcome *outcome);

/* Ends the messages that are not sent yet, and hears no more of those that are. */
extern void obx_kafka_client_forget(ObxKafkaClient *client);

extern ObxKafkaFault obx_kafka_fault_of(rd_kafka_resp_err_t error);

#endif							/* OBX_BIN_KAFKA_CLIENT_H */
