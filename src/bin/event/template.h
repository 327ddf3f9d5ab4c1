/*
 * A text with parts of an event in it: 'shop.{type}'.
 *
 * {type}, {source}, {key} and {operation} stand for columns, {header.NAME} for
 * a member of the headers; {{ and }} for a brace.
 */
#ifndef OBX_BIN_TEMPLATE_H
#define OBX_BIN_TEMPLATE_H

#include "base/config.h"
#include "event/event.h"

typedef struct ObxTemplate ObxTemplate;

/* Of a setting, or else of the text; sets the configuration's error and returns NULL if it is wrong. */
extern ObxTemplate *obx_template_read(ObxConfig *config, const char *section, const char *name,
									  const char *otherwise);
extern void obx_template_free(ObxTemplate *template);

/* The columns that it needs. */
extern int	obx_template_columns(const ObxTemplate *template);

/*
 * Appends what it is for this event; false, with nothing appended, if the event
 * has no such column or header: *missing is its name.
 */
extern bool obx_template_append(ObxText *text, const ObxTemplate *template,
								const ObxEvent *event, const char **missing);

#endif							/* OBX_BIN_TEMPLATE_H */
