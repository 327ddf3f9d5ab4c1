/*
 * A row's ordering key.
 */
#ifndef OBX_KEY_H
#define OBX_KEY_H

#include "access/tupdesc.h"

typedef struct ObxKey ObxKey;

/* Lives in the current memory context; looks up catalogs. */
extern ObxKey *obx_key_create(TupleDesc tupdesc, const AttrNumber *columns, int count);

/*
 * The key columns' text, several of them joined by commas; NULL if one of them is NULL.  In
 * the current memory context.  Arrays as in a slot.  Does not depend on the
 * session's settings: equal rows have equal keys, whoever writes them.
 */
extern text *obx_key_encode(ObxKey *key, const Datum *values, const bool *nulls);

/*
 * Settings under which the output function of every type writes the same, and
 * its input function reads it; undone with AtEOXact_GUC() of that level.
 */
extern int	obx_key_pin_settings(void);

#endif							/* OBX_KEY_H */
