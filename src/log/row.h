/*
 * An event as the row that is stored.
 */
#ifndef OBX_ROW_H
#define OBX_ROW_H

#include "access/htup.h"

/* Forms the row of those columns, in the current memory context. */
extern HeapTuple obx_row_form(const Datum *values, const bool *nulls);

/*
 * Sets the id of a row that was formed without one, and has no cause.  If the
 * row has no correlation id either, it gets the same id.
 */
extern void obx_row_set_id(HeapTuple row, int64 id);

#endif							/* OBX_ROW_H */
