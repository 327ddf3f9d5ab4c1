/*
 * Rows of outbox.schema_version.
 */
#ifndef OBX_SCHEMA_VERSION_H
#define OBX_SCHEMA_VERSION_H

#include "utils/jsonb.h"

/* The columns of a version, or NULL. */
extern Jsonb *obx_schema_version_find(const char *source, int version);

/* The last version of a table and its columns; 0 and NULL if there is none. */
extern int	obx_schema_version_last(const char *source, Jsonb **columns);

extern void obx_schema_version_insert(const char *source, int version, Jsonb *columns);

#endif							/* OBX_SCHEMA_VERSION_H */
