/*
 * Writing the index on (xid, id).
 */
#ifndef OBX_ORDER_INDEX_H
#define OBX_ORDER_INDEX_H

#include "storage/itemptr.h"
#include "utils/rel.h"

/* The place of an event of the current transaction. */
typedef struct ObxOrderEntry
{
	int64		id;
	ItemPointerData tid;
} ObxOrderEntry;

/* Is it the index on (xid, id) that every partition has? */
extern bool obx_order_index_is(Relation index);

/* Inserts entries of transaction "xid", whose ids rise. */
extern void obx_order_index_insert(Relation partition, Relation index, uint64 xid,
								   const ObxOrderEntry *entries, int count);

#endif							/* OBX_ORDER_INDEX_H */
