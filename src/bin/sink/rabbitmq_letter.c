/*
 * A letter to RabbitMQ: by CloudEvents' binding for AMQP, whose application
 * properties are headers here.
 */
#include "sink/rabbitmq_letter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_SHORT		255		/* bytes of what the protocol calls a short
								 * string */
#define FRAME_OVERHEAD	1200	/* of properties that are not headers, and
								 * around */

/* Returns where it stands. */
static ObxRabbitmqPart
add_part(ObxRabbitmqLetter *letter, const char *data, size_t length)
{
	ObxRabbitmqPart part = {.start = letter->text.length,.length = length};

	obx_text_append(&letter->text, data, length);
	obx_text_append_char(&letter->text, '\0');
	return part;
}

/* What is longer than the protocol can have stands in the headers alone. */
static ObxRabbitmqPart
add_short_part(ObxRabbitmqLetter *letter, const char *string)
{
	size_t		length = string != NULL ? strlen(string) : 0;

	return add_part(letter, string != NULL ? string : "", length <= MOST_SHORT ? length : 0);
}

static bool
add_template(ObxRabbitmqLetter *letter, ObxRabbitmqPart *part, const ObxTemplate *template,
			 const ObxEvent *event, const char **missing)
{
	part->start = letter->text.length;
	if (!obx_template_append(&letter->text, template, event, missing))
		return false;
	part->length = letter->text.length - part->start;
	obx_text_append_char(&letter->text, '\0');
	return true;
}

/* An ObxAttributeFunction: a header of the letter. */
static void
add_attribute(void *context, const char *name, const char *value)
{
	ObxRabbitmqLetter *letter = context;
	ObxRabbitmqHeader *header = &letter->headers[letter->nheaders];
	char		prefixed[60];

	if (letter->nheaders == OBX_RABBITMQ_HEADERS)
		return;
	snprintf(prefixed, sizeof(prefixed), "cloudEvents:%s", name);
	header->name = add_part(letter, prefixed, strlen(prefixed));
	header->value = add_part(letter, value, strlen(value));
	letter->nheaders++;
}

static const char *
content_type(const ObxRabbitmqStyle *style, ObxForm form)
{
	return form == OBX_FORM_CLOUDEVENTS && style->structured ?
		"application/cloudevents+json; charset=utf-8" : "application/json";
}

bool
obx_rabbitmq_letter_write(ObxRabbitmqLetter *letter, const ObxRabbitmqStyle *style,
						  const ObxMessage *message, const char **missing)
{
	const ObxEvent *event = message->event;

	obx_text_clear(&letter->text);
	free(letter->why);
	letter->why = NULL;
	letter->ticket = message->ticket;
	letter->fate = OBX_QUEUED;
	letter->nheaders = 0;
	snprintf(letter->id, sizeof(letter->id), "%s", message->id);
	letter->timestamp = obx_event_milliseconds(event->time) / 1000;
	letter->content_type = content_type(style, message->form);
	letter->type = add_short_part(letter, event->type);
	letter->correlation_id = add_short_part(letter, event->correlation_id);
	if (!add_template(letter, &letter->exchange, style->exchange, event, missing) ||
		!add_template(letter, &letter->routing_key, style->routing_key, event, missing))
		return false;
	if (message->form == OBX_FORM_CLOUDEVENTS && !style->structured)
		obx_event_attributes(event, message->generations, add_attribute, letter);
	letter->body = add_part(letter, message->body, message->length);
	return true;
}

bool
obx_rabbitmq_letter_fits(const ObxRabbitmqLetter *letter, size_t frame_size, int64_t most_bytes,
						 char *why, size_t size)
{
	size_t		headers = FRAME_OVERHEAD;

	for (int i = 0; i < letter->nheaders; i++)
		headers += letter->headers[i].name.length + letter->headers[i].value.length + 6;
	if (letter->exchange.length > MOST_SHORT || letter->routing_key.length > MOST_SHORT)
		snprintf(why, size, "the name of its exchange or its routing key is longer than %d bytes", MOST_SHORT);
	else if (headers > frame_size)
		snprintf(why, size, "its headers have %zu bytes, and a frame of the broker %zu", headers, frame_size);
	else if (most_bytes > 0 && letter->body.length > (size_t) most_bytes)
		snprintf(why, size, "it has %zu bytes, and the broker takes %lld", letter->body.length,
				 (long long) most_bytes);
	else
		return true;
	return false;
}
