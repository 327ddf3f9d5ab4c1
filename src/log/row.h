/*
 * An event as the row that is stored.
 */
#ifndef OBX_ROW_H
#define OBX_ROW_H

#include "access/htup.h"

/* The row of those columns, in the current memory context. */
extern HeapTuple obx_row_form(const Datum *values, const bool *nulls);

/*
 * Sets the id of a row that was formed without, and has no cause.  If it has
 * no correlation id either, that is the same.
 */
extern void obx_row_set_id(HeapTuple row, int64 id);

#endif							/* OBX_ROW_H */
