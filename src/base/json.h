/*
 * Making and reading jsonb objects.
 */
#ifndef OBX_JSON_H
#define OBX_JSON_H

#include "base/compat.h"

/*
 * Members of an object that is being made with obx_json_push(); nothing is
 * copied before the object is finished.
 */
extern void obx_json_push_key(ObxJsonState * state, const char *name);
extern void obx_json_push_string(ObxJsonState * state, const char *string);
extern void obx_json_push_number(ObxJsonState * state, int64 number);
extern void obx_json_push_null(ObxJsonState * state);
extern void obx_json_push_jsonb(ObxJsonState * state, Jsonb *jsonb);

/* An element of an array that is being made. */
extern void obx_json_push_element(ObxJsonState * state, Jsonb *jsonb);

/* An object with one member, a string. */
extern Jsonb *obx_json_make_string(const char *name, const char *string);

/*
 * The member of an object if it is a string, in CurrentMemoryContext; NULL if
 * it is not there or something else.
 */
extern char *obx_json_find_string(Jsonb *object, const char *name);

#endif							/* OBX_JSON_H */
