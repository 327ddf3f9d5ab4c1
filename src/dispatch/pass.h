/*
 * One pass: at most one batch of one lane of one subscription.
 */
#ifndef OBX_PASS_H
#define OBX_PASS_H

#include "datatype/timestamp.h"

#include "dispatch/watcher.h"

/*
 * How a pass begins and ends transactions: a worker does so itself, CALL
 * outbox.run() through SPI.  After commit and after abort no transaction is
 * open in a worker; run()'s versions leave a new one open, and its begin does
 * nothing.
 */
typedef struct ObxTransactionOps
{
	void		(*begin) (void);
	void		(*commit) (void);
	void		(*abort) (void);

	/*
	 * Remove what handlers have left in the session: at the end of the
	 * transaction in which they ran; and when their calls were undone, that
	 * which a rollback leaves.
	 */
	void		(*clear_session) (void);
	void		(*abandon_session) (void);
	bool		owns_session;	/* it is the handlers' alone */
} ObxTransactionOps;

typedef enum ObxPassOutcome
{
	OBX_PASS_IDLE,				/* nothing (more) to do up to the head */
	OBX_PASS_MORE,				/* did a batch, there is more */
	OBX_PASS_LOCKED,			/* someone else serves the lane now */
	OBX_PASS_STOPPED,			/* gone, paused, pull, or another owner's */
	OBX_PASS_BROKEN,			/* cannot run (handler missing, ...): try
								 * later */
	OBX_PASS_BACKOFF			/* infrastructure at fault: try later */
} ObxPassOutcome;

typedef struct ObxPassResult
{
	ObxPassOutcome outcome;
	int64		position;		/* of the lane now, -1 if not known */
	int64		handled;		/* events dealt with (delivered or failed) */
	int64		read;			/* positions by which the lane has moved */
	bool		cleared;		/* the suspect has been dealt with */
	TimestampTz due;			/* next retry of the lane, DT_NOEND if none */
} ObxPassResult;

typedef struct ObxPassRequest
{
	int32		subscription;
	int			lane;
	int64		max_events;		/* bounds the batch beside batch_size; 0 is no
								 * bound */
	bool		shared;			/* others will want the same stretch of the
								 * log: read no farther than it is kept */

	/*
	 * Of a lane whose last session ended while it was served.  The event that
	 * was being handled is taken alone, and its attempt is counted and
	 * committed before the call, so that one that ends its session again runs
	 * out of attempts.  Where it is not known which one it was, "careful"
	 * events are taken at most, and one that is taken alone is counted.
	 */
	int64		suspect;		/* its position, 0 for none */
	int			careful;		/* 0 for no bound */

	ObxWatcherYield yield;		/* NULL: nobody waits */
	ObxWatcherNote note;		/* NULL: nobody wants to know */
} ObxPassRequest;

/*
 * Serves the lane once.  Called outside a transaction (or in run()'s fresh
 * one) by a session of the subscription's owner; runs one or two transactions
 * of its own.  Errors of handlers never leave it; infrastructure's errors are
 * logged and become OBX_PASS_BACKOFF; FATAL passes through.  The current memory
 * context must outlive these transactions.
 */
extern void obx_pass_run(const ObxTransactionOps *ops, const ObxPassRequest *request,
						 ObxPassResult *result);

#endif							/* OBX_PASS_H */
