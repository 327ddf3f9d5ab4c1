/*
 * Rows of outbox.aggregate_window: what an aggregate has folded of a key and
 * not emitted yet.
 *
 * Insert-only; of each key the newest version counts.
 */
#ifndef OBX_WINDOW_H
#define OBX_WINDOW_H

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/snapshot.h"

#include "base/table.h"

/* Ids of events that a window remembers, the first ones. */
#define OBX_WINDOW_CAUSES 1000

typedef struct ObxWindow
{
	int32		subscription;
	text	   *key;			/* NULL: of events without one */
	int64		version;		/* of the row, 0 if there is none */
	bool		open;			/* what follows means nothing if not */
	int64		events;
	TimestampTz since;			/* when the first event got its position */
	TimestampTz latest;			/* when the latest did */
	TimestampTz due;			/* complete by time; DT_NOEND for never */
	Jsonb	   *state;			/* NULL for a state of NULL */
	text	   *correlation_id; /* of the first event */
	text	   *traceparent;	/* likewise; NULL for none */
	int64		last_position;
	int64		last_event_id;
	int64		last_causation_id;	/* that event's own cause; 0 for none */
	int			ncauses;
	int64	   *causes;			/* may be a longer array */
} ObxWindow;

/*
 * Finds the newest version, into CurrentMemoryContext; without one, *window
 * is closed and has version 0.
 */
extern void obx_window_find(int32 subscription, text *key, ObxWindow *window);

/*
 * Writes versions; one that is not open says that the key has no window any
 * more.  The caller holds the lane's lock, also for reading a window in order
 * to write it.
 */
extern void obx_window_write(ObxInserter *inserter, const ObxWindow *window);

/* The open windows of a subscription that have a due time, earliest first. */
typedef struct ObxWindowScan
{
	int32		subscription;
	ObxScan		scan;
} ObxWindowScan;

extern void obx_window_scan_begin(ObxWindowScan *scan, int32 subscription, TimestampTz from);
extern bool obx_window_scan_next(ObxWindowScan *scan, ObxWindow *window);
extern void obx_window_scan_end(ObxWindowScan *scan);

/*
 * Deletes all of a subscription, and tells how many windows were open.  Waits
 * while another transaction deletes rows.
 */
extern void obx_window_delete_all(int32 subscription, int64 *open);

/* A row that was come to; all zeroes for none. */
typedef struct ObxWindowPlace
{
	int32		subscription;
	bool		is_set;
	text	   *key;			/* in TopMemoryContext; NULL for none */
	int64		version;
} ObxWindowPlace;

extern void obx_window_place_reset(ObxWindowPlace *place);

/*
 * Deletes so many rows of a subscription at most, those behind *place, and
 * returns how many: less than "limit" at the end, -1 while another transaction
 * deletes rows.  *place is where the next call goes on, and hence for those
 * only that follow if this one commits.
 */
extern int	obx_window_delete_some(int32 subscription, ObxWindowPlace *place, int limit);

/*
 * Deletes superseded versions, and closed ones, that vacuum can remove at
 * once; a bounded number of them, from where the last call stopped.  True if
 * there may be more.
 */
extern bool obx_window_clean(void);

#endif							/* OBX_WINDOW_H */
