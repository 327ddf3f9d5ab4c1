/*
 * Rules compiled for a version of their table, and the cache of them.
 */
#ifndef OBX_COMPILED_H
#define OBX_COMPILED_H

#include "lib/ilist.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "capture/encoder.h"
#include "capture/headers.h"
#include "capture/key.h"
#include "capture/rule.h"

/* Operations as an index; the order of the bits OBX_CAPTURE_*. */
typedef enum ObxOperation
{
	OBX_OPERATION_INSERT,
	OBX_OPERATION_UPDATE,
	OBX_OPERATION_DELETE,
	OBX_OPERATION_TRUNCATE,
	OBX_OPERATION_COUNT
} ObxOperation;

/* A column of the table that an update is compared by. */
typedef struct ObxComparedColumn
{
	AttrNumber	attnum;
	bool		by_value;
	int16		length;
} ObxComparedColumn;

/* Only "stale" changes after it was made. */
typedef struct ObxCompiledRule
{
	dlist_node	link;
	Oid			trigger;
	Oid			relation;		/* whose rows come in, maybe a leaf */
	Oid			source_relation;	/* on which the rule was made */
	Oid			source_trigger; /* there */
	int			operations;		/* OBX_CAPTURE_* */
	bool		is_partition;	/* so rows may move to another one */
	bool		stale;			/* compile anew; set by callbacks */
	MemoryContext memory;		/* holds all of this */

	const char *name;
	ObxOldValues old_values;
	Datum		type[OBX_OPERATION_COUNT];	/* text */
	Datum		operation[OBX_OPERATION_COUNT]; /* text */
	Datum		source;			/* text */
	ObxHeaders	own_headers;
	Datum		headers;		/* the same as jsonb, 0 if there are none */
	Datum		no_data;		/* jsonb {} */

	AttrNumber	last_column;	/* highest number among data and key */
	int			column_count;
	ObxComparedColumn *columns; /* of data */
	int			key_count;
	ObxComparedColumn *key_columns;
	ObxEncoder *encoder;
	ObxKey	   *key;			/* NULL: no key */
} ObxCompiledRule;

/*
 * The rule of a trigger of that relation.  Good until the transaction ends,
 * even if it goes stale meanwhile.  While it is compiled, *name is set as soon
 * as it is known, for the error context.
 */
extern ObxCompiledRule *obx_compiled_find(Trigger *trigger, Relation rel,
										  const char **name);

#endif							/* OBX_COMPILED_H */
