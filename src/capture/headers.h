/*
 * What capture says in an event's headers.
 */
#ifndef OBX_HEADERS_H
#define OBX_HEADERS_H

#include "utils/jsonb.h"

/* What all headers of a rule have. */
typedef struct ObxHeaders
{
	const char *partition;		/* schema.name, NULL: the rule's own table */
	int			schema_version; /* 1 is not mentioned */
} ObxHeaders;

/* schema.name of a table, as events name it */
extern char *obx_headers_relation_name(Oid relid);

extern Jsonb *obx_headers_create(const ObxHeaders *headers);

/* With the former key, which may be NULL. */
extern Jsonb *obx_headers_create_rekeyed(const ObxHeaders *headers, const text *old_key);

/* For a row that came from a partition, as the event of that id tells. */
extern Jsonb *obx_headers_create_moved(const ObxHeaders *headers, int64 departure);

#endif							/* OBX_HEADERS_H */
