/*
 * What a configuration says of the sink "kafka".
 */
#ifndef OBX_BIN_KAFKA_SETTINGS_H
#define OBX_BIN_KAFKA_SETTINGS_H

#include <librdkafka/rdkafka.h>

#include "base/config.h"
#include "event/template.h"

typedef struct ObxKafkaSettings
{
	bool		is_transactional;	/* exactly once */
	bool		takes_parts;	/* a CloudEvent's attributes are headers */
	bool		tombstones;		/* behind events of deletes */
	char	   *progress_topic;
	ObxTemplate *topic;
	ObxTemplate *key;
	rd_kafka_conf_t *conf;		/* may be taken, and set to NULL */
} ObxKafkaSettings;

/* False: the configuration's error is set, and there is nothing to be freed. */
extern bool obx_kafka_settings_read(ObxConfig *config, ObxKafkaSettings *settings);
extern void obx_kafka_settings_free(ObxKafkaSettings *settings);

#endif							/* OBX_BIN_KAFKA_SETTINGS_H */
