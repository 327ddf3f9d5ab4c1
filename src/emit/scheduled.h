/*
 * Scheduled events: stored now, and moved into the log when they are due.
 */
#ifndef OBX_SCHEDULED_H
#define OBX_SCHEDULED_H

#include "catalog/schedule.h"

/* Events that one call of obx_scheduled_move() moves at most. */
#define OBX_DUE_BATCH 10000

/*
 * Stores an event for that time, which is finite.  "values" are those of
 * obx_event_append(), checked; the event inherits now.  The key (or 0) is the
 * one claimed for it, at "now".  Returns its id in outbox.schedule.
 */
extern int64 obx_scheduled_schedule(Datum *values, bool *nulls, TimestampTz deliver_at,
									Datum idempotency_key, TimestampTz now);

typedef struct ObxScheduledMove
{
	bool		busy;			/* somebody else is moving; all else is 0 */
	int			moved;
	bool		more;			/* the batch was full */
	TimestampTz next;			/* else, when the next one is due; DT_NOEND
								 * for none */
	bool		skipped;		/* some are held by open transactions that may
								 * cancel them */
	int64		search;			/* microseconds until the first was found */
} ObxScheduledMove;

/*
 * Moves due events that are behind a place into the log, in the order of their
 * time and then of their publishing, and moves the place behind them.  To be
 * called in a separate READ COMMITTED transaction: its locks are held until
 * that ends.  Takes no transaction id if no event is due.
 *
 * The place means that the caller knows of no event before it.  Events that
 * were skipped, or that commit later, may be before it.
 */
extern void obx_scheduled_move(ObxSchedulePlace *place, bool wait, ObxScheduledMove *result);

/*
 * Removes a scheduled event; false if there is none, or none any more.  Waits
 * for a session that is moving or cancelling it.
 */
extern bool obx_scheduled_cancel(int64 id);

/*
 * The id of the scheduled event that has the idempotency key, 0 if none has.
 * Waits for a transaction that is giving the key to one, or takes it away.
 */
extern int64 obx_scheduled_find(Datum key);

/* Gives it another time; false as above.  It has another id from then on. */
extern bool obx_scheduled_postpone(int64 id, TimestampTz deliver_at);

#endif							/* OBX_SCHEDULED_H */
