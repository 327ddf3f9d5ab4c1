/*
 * Claims: doing something once only, by a key.
 */
#ifndef OBX_ONCE_H
#define OBX_ONCE_H

#include "storage/lock.h"

#include "catalog/seen.h"

/* The first use of a key. */
typedef struct ObxOnceUse
{
	int64		event_id;		/* 0: it is scheduled, and gets one later */
	int64		scheduled_id;	/* its id in outbox.schedule then */
} ObxOnceUse;

typedef struct ObxOnce
{
	ObxSeenKey	key;
	LOCKTAG		lock;
	TimestampTz time;
	int64		turn;
} ObxOnce;

/*
 * Claims a key; both texts are checked; "consumer" is empty for a publisher's
 * key.  True: no call has used the key within outbox.idempotency_window, and
 * no event in outbox.schedule has it.  Then no other session can use it until
 * obx_once_finish() or obx_once_leave(), one of which must follow soon in this
 * subtransaction; later callers wait for the end of this transaction.
 *
 * False: the key has been used, and *use describes the first use.  Waits for
 * open transactions that have used the key, or that cancel the event which has
 * it.
 *
 * In a transaction with one snapshot, a use that this snapshot does not show
 * is a serialization failure.
 */
extern bool obx_once_begin(ObxOnce *claim, Datum consumer, Datum key, ObxOnceUse *use);

/* Records the use; the transaction's rollback, or a savepoint's, frees the key. */
extern void obx_once_finish(ObxOnce *claim, int64 event_id);

/*
 * Like obx_once_finish(), if the use is a row that was inserted into
 * outbox.schedule.
 */
extern void obx_once_leave(ObxOnce *claim);

/*
 * Records the use of a key, at that time, by a scheduled event; in the
 * transaction that deletes its row and appends the event.
 */
extern void obx_once_complete(Datum key, TimestampTz time, int64 event_id);

/*
 * Forgets keys that are older than the window, as far as that is possible
 * without waiting.  To be called in a separate transaction; takes no
 * transaction id if there is nothing to do.
 */
extern void obx_once_forget(void);

#endif							/* OBX_ONCE_H */
