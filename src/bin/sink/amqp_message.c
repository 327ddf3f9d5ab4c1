/*
 * A message of AMQP 1.0 from an event: by CloudEvents' binding.
 *
 * Azure Service Bus knows a repeated message by its message-id, and a session by
 * its group-id; where its documented limits are passed, it would refuse the
 * message, and not always in words that name the reason.
 */
#include "sink/amqp_message.h"

#include <stdio.h>
#include <string.h>

#include <proton/codec.h>

#define MOST_SERVICE_BUS_ID			128 /* characters */
#define MOST_SERVICE_BUS_PROPERTY	(32 * 1024) /* bytes */
#define MOST_SERVICE_BUS_PROPERTIES	(64 * 1024)

static pn_bytes_t
to_bytes(const char *string)
{
	return pn_bytes(strlen(string), string);
}

typedef struct Attributes
{
	pn_data_t  *data;
	size_t		bytes;
	size_t		longest;
} Attributes;

/* An ObxAttributeFunction: an application property. */
static void
put_attribute(void *context, const char *name, const char *value)
{
	Attributes *attributes = context;
	size_t		length = strlen(value);
	char		prefixed[60];

	snprintf(prefixed, sizeof(prefixed), "cloudEvents:%s", name);
	pn_data_put_string(attributes->data, to_bytes(prefixed));
	pn_data_put_string(attributes->data, pn_bytes(length, value));
	attributes->bytes += strlen(prefixed) + length;
	if (length > attributes->longest)
		attributes->longest = length;
}

static Attributes
put_attributes(pn_message_t * out, const ObxMessage *message)
{
	Attributes	attributes = {.data = pn_message_properties(out)};

	pn_data_put_map(attributes.data);
	pn_data_enter(attributes.data);
	obx_event_attributes(message->event, message->generations, put_attribute, &attributes);
	pn_data_exit(attributes.data);
	return attributes;
}

static size_t
count_characters(const char *string)
{
	size_t		count = 0;

	for (; *string != '\0'; string++)
		count += (*string & 0xC0) != 0x80;
	return count;
}

static bool
is_within_limits(const ObxAmqpWriter *writer, const Attributes *attributes, char *why, size_t size)
{
	size_t		properties = attributes->bytes + writer->properties;

	if (count_characters(writer->group_text.data) > MOST_SERVICE_BUS_ID)
		snprintf(why, size, "its group-id has %zu characters, and a session id of Service Bus at most %d",
				 count_characters(writer->group_text.data), MOST_SERVICE_BUS_ID);
	else if (attributes->longest > MOST_SERVICE_BUS_PROPERTY)
		snprintf(why, size, "a property of it has %zu bytes, and one of Service Bus at most %d",
				 attributes->longest, MOST_SERVICE_BUS_PROPERTY);
	else if (properties > MOST_SERVICE_BUS_PROPERTIES)
		snprintf(why, size, "its properties have %zu bytes, and those of a message of Service Bus at most %d",
				 properties, MOST_SERVICE_BUS_PROPERTIES);
	else
		return true;
	return false;
}

/* A string of the properties section; copied by the message. */
static pn_atom_t
to_atom(const char *string)
{
	pn_atom_t	atom = {.type = PN_STRING};

	atom.u.as_bytes = to_bytes(string);
	return atom;
}

static bool
put_properties(ObxAmqpWriter *writer, const ObxMessage *message, char *why, size_t size)
{
	const ObxEvent *event = message->event;
	const char *missing;

	obx_text_clear(&writer->text);
	obx_text_clear(&writer->group_text);
	if (!obx_template_append(&writer->text, writer->subject, event, &missing))
	{
		snprintf(why, size, "it has no \"%s\", which is to be in its subject", missing);
		return false;
	}
	obx_template_append(&writer->group_text, writer->group, event, &missing);
	pn_message_set_durable(writer->message, true);
	pn_message_set_id(writer->message, to_atom(message->id));
	pn_message_set_subject(writer->message, writer->text.data);
	writer->properties = strlen(message->id) + writer->text.length + writer->group_text.length;
	if (writer->group_text.length > 0)
		pn_message_set_group_id(writer->message, writer->group_text.data);
	if (event->correlation_id != NULL)
	{
		pn_message_set_correlation_id(writer->message, to_atom(event->correlation_id));
		writer->properties += strlen(event->correlation_id);
	}
	pn_message_set_creation_time(writer->message, obx_event_milliseconds(event->time));
	pn_message_set_content_type(writer->message, message->form == OBX_FORM_CLOUDEVENTS &&
								writer->structured ? "application/cloudevents+json; charset=utf-8" :
								"application/json");
	return true;
}

bool
obx_amqp_writer_write(ObxAmqpWriter *writer, const ObxMessage *message, char *why, size_t size)
{
	Attributes	attributes = {0};
	ssize_t		encoded;

	pn_message_clear(writer->message);
	if (!put_properties(writer, message, why, size))
		return false;
	if (message->form == OBX_FORM_CLOUDEVENTS && !writer->structured)
		attributes = put_attributes(writer->message, message);
	if (writer->service_bus && !is_within_limits(writer, &attributes, why, size))
		return false;
	pn_message_set_inferred(writer->message, true);
	pn_data_put_binary(pn_message_body(writer->message), pn_bytes(message->length, message->body));
	encoded = pn_message_encode2(writer->message, &writer->bytes);
	writer->size = encoded > 0 ? encoded : 0;
	if (encoded > 0)
		return true;
	snprintf(why, size, "it could not be written as a message");
	return false;
}
