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
 * Asks for a key, both texts checked; "consumer" is empty for a publisher's.
 * True: nobody has used it within outbox.idempotency_window, nor does an event
 * with it wait in outbox.schedule.  Then nobody else can use it until
 * obx_once_finish() or obx_once_leave(), one of which must follow in this
 * subtransaction and soon; and who asks later waits for this transaction's end.
 *
 * False: it has been used, *use tells for what.  Waits for open transactions
 * that have used the key, or that cancel the event which has it.
 *
 * In a transaction of one snapshot, a use that this does not show is a
 * serialization failure.
 */
extern bool obx_once_begin(ObxOnce *claim, Datum consumer, Datum key, ObxOnceUse *use);

/* Records the use; the transaction's rollback, or a savepoint's, frees the key. */
extern void obx_once_finish(ObxOnce *claim, int64 event_id);

/* Likewise where the use is a row that was inserted into outbox.schedule. */
extern void obx_once_leave(ObxOnce *claim);

/*
 * The use of a key at that time by an event that was scheduled, in the
 * transaction that deletes its row and appends it.
 */
extern void obx_once_complete(Datum key, TimestampTz time, int64 event_id);

/*
 * Forgets keys that are older than the window, as far as that can be done
 * without waiting.  In a transaction of its own; takes no transaction id when
 * there is nothing to do.
 */
extern void obx_once_forget(void);

#endif							/* OBX_ONCE_H */
