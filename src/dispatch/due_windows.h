/*
 * Windows of aggregates that are due.
 */
#ifndef OBX_DUE_WINDOWS_H
#define OBX_DUE_WINDOWS_H

#include "catalog/progress.h"
#include "catalog/subscription.h"
#include "delivery/target.h"
#include "dispatch/lane.h"

/*
 * The number of windows that one pass completes: their states are in memory
 * together.
 */
#define OBX_WINDOWS_AT_ONCE 1000

typedef struct ObxDueWindows
{
	const ObxSubscription *subscription;
	const ObxLane *lane;
	ObxTarget  *target;			/* to be opened before completing */
	TimestampTz bound;			/* none is due before, once these are
								 * completed; 0 for never */
	TimestampTz next;			/* when to look again */
	int			count;
	struct ObxWindow *windows;
} ObxDueWindows;

/*
 * Is it time for windows of which none is due before "due", 0 for never?  Also
 * if that was noted by a clock that was ahead.
 */
extern bool obx_due_windows_exist(const ObxSubscription *subscription, TimestampTz due,
								  TimestampTz now);

/*
 * Lists up to "limit" windows that are due at "time": every event that got its
 * position before has been dealt with, or is open.  Windows of blocked keys
 * wait for those.
 */
extern void obx_due_windows_list(ObxDueWindows *windows, TimestampTz from, TimestampTz time, int limit);

/*
 * Completes them, in one subtransaction or a few; windows whose event cannot
 * be emitted are postponed.  The caller saves the target.
 */
extern void obx_due_windows_complete(ObxDueWindows *windows);

#endif							/* OBX_DUE_WINDOWS_H */
