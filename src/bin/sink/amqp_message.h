/*
 * A message of AMQP 1.0 from an event.
 */
#ifndef OBX_BIN_AMQP_MESSAGE_H
#define OBX_BIN_AMQP_MESSAGE_H

#include <proton/message.h>

#include "event/template.h"
#include "sink/sink.h"

/* How, and what it is written with. */
typedef struct ObxAmqpWriter
{
	ObxTemplate *subject;
	ObxTemplate *group;			/* an event that lacks its parts has no group */
	bool		structured;		/* a CloudEvent is the body, as JSON */
	bool		service_bus;	/* its limits hold */
	pn_message_t *message;
	ObxText text;
	ObxText		group_text;		/* of the message written last; "" for none */
	size_t		properties;		/* bytes of them, likewise */
	pn_rwbytes_t bytes;			/* the message */
	size_t		size;			/* of it */
} ObxAmqpWriter;

/* False if there can be no such message: *why, of "size" bytes, says why not. */
extern bool obx_amqp_writer_write(ObxAmqpWriter *writer, const ObxMessage *message, char *why,
								  size_t size);

#endif							/* OBX_BIN_AMQP_MESSAGE_H */
