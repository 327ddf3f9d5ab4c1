/*
 * Existing rows as events.
 */
#ifndef OBX_SNAPSHOT_H
#define OBX_SNAPSHOT_H

#include "utils/rel.h"

/*
 * Emits the next rows of a captured table, at most about batch_size of them,
 * and remembers how far it came; returns how many there were.  0: that was
 * all, and the next call starts over.  The rows stay locked until the
 * transaction ends.  Reads as the current user.
 */
extern int64 obx_snapshot_batch(Relation rel, int batch_size);

#endif							/* OBX_SNAPSHOT_H */
