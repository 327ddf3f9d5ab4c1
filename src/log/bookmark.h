/*
 * Where readers have stopped in the middle of large transactions.
 */
#ifndef OBX_BOOKMARK_H
#define OBX_BOOKMARK_H

/* Within a transaction, an event and its position, which never change. */
typedef struct ObxBookmark
{
	uint64		xid;
	int64		position;
	int64		id;
} ObxBookmark;

/* From _PG_init: shared memory. */
extern void obx_bookmark_init(void);

/*
 * The last known one in the transaction that is not behind the position; false
 * if there is none.
 */
extern bool obx_bookmark_find(uint64 xid, int64 position, ObxBookmark *bookmark);

/* A reader that went on from the position "from" has come to this one. */
extern void obx_bookmark_put(const ObxBookmark *bookmark, int64 from);

#endif							/* OBX_BOOKMARK_H */
