/*
 * The record of progress in Kafka: the newest one of a key, in a compacted
 * topic of one partition.
 *
 * For the thread that may wait.
 */
#ifndef OBX_BIN_KAFKA_PROGRESS_H
#define OBX_BIN_KAFKA_PROGRESS_H

#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ObxKafkaProgress
{
	rd_kafka_t *producer;
	const		rd_kafka_conf_t *conf;	/* of those who read */
	const char *topic;
	const char *key;
	int64_t		until;			/* not longer than that */
	_Atomic bool *give_up;		/* nor when this is set */
	char		why[300];		/* it failed */
} ObxKafkaProgress;

/* Makes the topic if there is none, and makes sure that it is what it must be. */
extern bool obx_kafka_progress_prepare(ObxKafkaProgress *progress, rd_kafka_resp_err_t * error);

/*
 * The record, to be freed, or NULL if there is none.  Call it when no other
 * process can write one any more.
 */
extern bool obx_kafka_progress_read(ObxKafkaProgress *progress, char **record,
									rd_kafka_resp_err_t * error);

#endif							/* OBX_BIN_KAFKA_PROGRESS_H */
