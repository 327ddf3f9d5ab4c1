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

/* "1-4711": what a receiver knows a repeated event by. */
extern void obx_event_append_id(ObxText *text, int64_t id, const ObxGenerations *generations);

/*
 * The string that is a member of an object, as jsonb writes it; false if there
 * is no such member, or it is no string.
 */
extern bool obx_json_find(const char *object, const char *name, ObxText *value);

/* As an URI-reference, which CloudEvents want of a source. */
extern void obx_uri_append_reference(ObxText *text, const char *source);

/* A byte as "%XX". */
extern void obx_uri_append_escaped(ObxText *text, unsigned char c);

#endif							/* OBX_BIN_EVENT_H */
