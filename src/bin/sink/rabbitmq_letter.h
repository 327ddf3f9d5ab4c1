/*
 * A letter: what is published of an event.
 */
#ifndef OBX_BIN_RABBITMQ_LETTER_H
#define OBX_BIN_RABBITMQ_LETTER_H

#include <stdbool.h>
#include <stdint.h>

#include "event/template.h"
#include "sink/sink.h"

#define OBX_RABBITMQ_HEADERS	16

typedef enum ObxRabbitmqFate
{
	OBX_QUEUED,					/* not published yet */
	OBX_PUBLISHED,
	OBX_ACKED,
	OBX_NACKED,
	OBX_RETURNED				/* unroutable */
} ObxRabbitmqFate;

/* Places in a letter's text. */
typedef struct ObxRabbitmqPart
{
	size_t		start;
	size_t		length;			/* the 0 behind it is not counted */
} ObxRabbitmqPart;

typedef struct ObxRabbitmqHeader
{
	ObxRabbitmqPart name;
	ObxRabbitmqPart value;
} ObxRabbitmqHeader;

/* What is published.  Its texts stand one after the other, each with its 0. */
typedef struct ObxRabbitmqLetter
{
	int64_t		ticket;
	ObxRabbitmqFate fate;
	char		id[48];
	char	   *why;			/* it was returned; or NULL */
	ObxText text;				/* empty once it is published */
	ObxRabbitmqPart exchange;
	ObxRabbitmqPart routing_key;
	ObxRabbitmqPart type;		/* of length 0: none, as with the next one */
	ObxRabbitmqPart correlation_id;
	ObxRabbitmqPart body;
	const char *content_type;
	uint64_t	timestamp;		/* Unix time */
	int			nheaders;
	ObxRabbitmqHeader headers[OBX_RABBITMQ_HEADERS];
} ObxRabbitmqLetter;

/* How letters are written. */
typedef struct ObxRabbitmqStyle
{
	ObxTemplate *exchange;
	ObxTemplate *routing_key;
	bool		structured;		/* a CloudEvent is the body, as JSON */
} ObxRabbitmqStyle;

/* False, and *missing, if the event lacks what is to be in its address. */
extern bool obx_rabbitmq_letter_write(ObxRabbitmqLetter *letter, const ObxRabbitmqStyle *style,
									  const ObxMessage *message, const char **missing);

/*
 * Can it be published at all, with frames of that size, and messages of at most
 * so many bytes, or 0?  Else *why, of "size" bytes, says why not.
 */
extern bool obx_rabbitmq_letter_fits(const ObxRabbitmqLetter *letter, size_t frame_size,
									 int64_t most_bytes, char *why, size_t size);

#endif							/* OBX_BIN_RABBITMQ_LETTER_H */
