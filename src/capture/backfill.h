/*
 * Existing rows as events.
 */
#ifndef OBX_BACKFILL_H
#define OBX_BACKFILL_H

#include "nodes/pg_list.h"
#include "utils/rel.h"

/*
 * Emits the next rows of a captured table, about batch_size of them at most,
 * and remembers the last one; returns their number.  0: that was all, and the
 * next call starts over.  The rows stay locked until the transaction ends.
 * Reads as the table's owner, in a restricted operation.
 */
extern int64 obx_backfill_batch(Relation rel, int batch_size);

/* Forgets how far the snapshots of tables came that are gone, by their oids. */
extern void obx_backfill_forget(List *relations);

#endif							/* OBX_BACKFILL_H */
