/*
 * An event as it leaves the database: the texts of its columns, and the forms
 * that they are given.  Numbers and texts stay as they were written.
 */
#ifndef OBX_BIN_EVENT_H
#define OBX_BIN_EVENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

/* NULL stands for SQL's NULL. */
typedef struct ObxEvent
{
	int64_t		position;
	int64_t		id;
	const char *time;			/* ISO, in UTC */
	const char *type;
	const char *source;
	const char *key;
	const char *operation;
	const char *data;			/* JSON, as are the next two */
	const char *old;
	const char *headers;
	const char *correlation_id;
	const char *causation_id;
} ObxEvent;

/* Columns of events, of which a form or a sink needs some. */
enum
{
	OBX_COLUMN_TIME = 1 << 0,
	OBX_COLUMN_TYPE = 1 << 1,
	OBX_COLUMN_SOURCE = 1 << 2,
	OBX_COLUMN_KEY = 1 << 3,
	OBX_COLUMN_OPERATION = 1 << 4,
	OBX_COLUMN_DATA = 1 << 5,
	OBX_COLUMN_OLD = 1 << 6,
	OBX_COLUMN_BEFORE = 1 << 7, /* "old", with the columns that did not change */
	OBX_COLUMN_HEADERS = 1 << 8,
	OBX_COLUMN_CORRELATION = 1 << 9,
	OBX_COLUMN_CAUSATION = 1 << 10
};

/* In which generation of the log ids were drawn: in ascending order. */
typedef struct ObxGeneration
{
	int			generation;
	int64_t		first_id;
} ObxGeneration;

typedef struct ObxGenerations
{
	ObxGeneration *list;
	int			count;
} ObxGenerations;

typedef enum ObxForm
{
	OBX_FORM_CLOUDEVENTS,
	OBX_FORM_DEBEZIUM,
	OBX_FORM_DATA,
	OBX_FORM_JSON
} ObxForm;

/* One JSON value without a line break, appended to the text. */
extern void obx_event_form(ObxText *text, const ObxEvent *event,
						   const ObxGenerations *generations, ObxForm form);

/* The columns that the form needs. */
extern int	obx_form_columns(ObxForm form);

/* "1-4711": what a receiver knows a repeated event by. */
extern void obx_event_append_id(ObxText *text, int64_t id, const ObxGenerations *generations);

/* Likewise, into 64 bytes. */
extern void obx_event_put_id(char *to, int64_t id, const ObxGenerations *generations);

/*
 * "2026-01-05 09:00:00.123+00" as RFC 3339 writes it; false for what that does
 * not have: infinity, and years of more than four digits or before Christ.
 */
#define OBX_TIME_LENGTH 64
extern bool obx_event_put_time(char *to, const char *time);

/* A time of an event, in milliseconds since 1970; 0 for one that is none. */
extern int64_t obx_event_milliseconds(const char *time);

/*
 * Gives the attributes of a CloudEvent one after the other, but for those of
 * the data.  Names and values live as long as the call.
 */
typedef void (*ObxAttributeFunction) (void *context, const char *name, const char *value);
extern void obx_event_attributes(const ObxEvent *event, const ObxGenerations *generations,
								 ObxAttributeFunction give, void *context);

/*
 * The string that is a member of an object, as jsonb writes it; false if there
 * is no such member, or it is no string.
 */
extern bool obx_json_find(const char *object, const char *name, ObxText *value);

/* Likewise, and a number or a boolean as it is written. */
extern bool obx_json_find_text(const char *object, const char *name, ObxText *value);

/* As an URI-reference, which CloudEvents want of a source. */
extern void obx_uri_append_reference(ObxText *text, const char *source);

/* A byte as "%XX". */
extern void obx_uri_append_escaped(ObxText *text, unsigned char c);

#endif							/* OBX_BIN_EVENT_H */
