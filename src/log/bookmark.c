/*
 * Where readers have stopped in the middle of large transactions.
 *
 * A position within a transaction says how many of its events lie before, but
 * not which: they would have to be counted, each time, and a reader of a
 * million events in portions would count for ever.  So whoever stops leaves a
 * bookmark, the id at that position: for its own session, and, since a reader
 * may come through a pool of sessions, for all others in shared memory.  They
 * are few, and the oldest ones are overwritten: one that is missing costs time.
 *
 * Locks: one LWLock over the table, for a look or a write.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"

#include "base/compat.h"
#include "base/shmem.h"
#include "catalog/names.h"
#include "log/bookmark.h"

#define BOOKMARKS 128

/* Whose: another log, that of another database or a former one, has the same xids. */
typedef struct Place
{
	Oid			database;
	Oid			segment;		/* OID of outbox.segment */
	ObxBookmark bookmark;
} Place;

typedef struct Bookmarks
{
	LWLock	   *lock;
	uint32		next;			/* to be overwritten */
	Place		places[BOOKMARKS];
} Bookmarks;

static Bookmarks *bookmarks = NULL;
static Place own;				/* of this session, which mostly goes on there */

static void initialize_bookmarks(void *region, LWLockPadded *locks);

static ObxRegion bookmark_region = {
	.name = "pg_outbox bookmarks",
	.size = sizeof(Bookmarks),
	.locks = 1,
	.address = (void **) &bookmarks,
	.initialize = initialize_bookmarks
};

static void
initialize_bookmarks(void *region, LWLockPadded *locks)
{
	((Bookmarks *) region)->lock = &locks[0].lock;
}

void
obx_bookmark_init(void)
{
	obx_shmem_register(&bookmark_region);
}

static bool
is_in(const Place *place, Oid segment, uint64 xid)
{
	return place->bookmark.xid == xid && place->segment == segment &&
		place->database == MyDatabaseId;
}

/* Takes the place over if it is closer. */
static void
look(const Place *place, Oid segment, uint64 xid, int64 position, ObxBookmark *best)
{
	if (is_in(place, segment, xid) && place->bookmark.position <= position &&
		place->bookmark.position > best->position)
		*best = place->bookmark;
}

bool
obx_bookmark_find(uint64 xid, int64 position, ObxBookmark *bookmark)
{
	Oid			segment = obx_object_require(OBX_SEGMENT);

	memset(bookmark, 0, sizeof(ObxBookmark));
	look(&own, segment, xid, position, bookmark);
	if (bookmarks == NULL || bookmark->position == position)
		return bookmark->position > 0;
	LWLockAcquire(bookmarks->lock, LW_SHARED);
	for (int i = 0; i < BOOKMARKS; i++)
		look(&bookmarks->places[i], segment, xid, position, bookmark);
	LWLockRelease(bookmarks->lock);
	return bookmark->position > 0;
}

/* The one that the reader came from, else the next in turn. */
static Place *
choose_place(Oid segment, uint64 xid, int64 from)
{
	for (int i = 0; i < BOOKMARKS; i++)
		if (is_in(&bookmarks->places[i], segment, xid) &&
			bookmarks->places[i].bookmark.position == from)
			return &bookmarks->places[i];
	bookmarks->next = (bookmarks->next + 1) % BOOKMARKS;
	return &bookmarks->places[bookmarks->next];
}

void
obx_bookmark_put(const ObxBookmark *bookmark, int64 from)
{
	own.database = MyDatabaseId;
	own.segment = obx_object_require(OBX_SEGMENT);
	own.bookmark = *bookmark;
	if (bookmarks == NULL)
		return;
	LWLockAcquire(bookmarks->lock, LW_EXCLUSIVE);
	*choose_place(own.segment, bookmark->xid, from) = own;
	LWLockRelease(bookmarks->lock);
}
