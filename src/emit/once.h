/*
 * Claims: doing something once only, by a key.
 */
#ifndef OBX_ONCE_H
#define OBX_ONCE_H

#include "storage/lock.h"

#include "catalog/seen.h"

/* The first use of a key. */
typedef struct ObxClaimUse
{
	int64		event_id;		/* 0: it is scheduled, and gets one later */
	int64		scheduled_id;	/* its id in outbox.schedule then */
} ObxClaimUse;

typedef struct ObxClaim
{
	ObxSeenKey	key;
	LOCKTAG		lock;
	TimestampTz time;
	int64		turn;
} ObxClaim;

/*
 * Asks for a key, both texts checked; "consumer" is empty for a publisher's.
 * True: nobody has used it within outbox.idempotency_window, nor does an event
 * with it wait in outbox.schedule.  Then nobody else can use it until
 * obx_claim_finish() or obx_claim_leave(), one of which must follow in this
 * subtransaction and soon; and who asks later waits for this transaction's end.
 *
 * False: it has been used, *use tells for what.  Waits for open transactions
 * that have used the key, or that cancel the event which has it.
 *
 * In a transaction of one snapshot, a use that this does not show is a
 * serialization failure.
 */
extern bool obx_claim_begin(ObxClaim *claim, Datum consumer, Datum key, ObxClaimUse *use);

/* Records the use; the transaction's rollback, or a savepoint's, frees the key. */
extern void obx_claim_finish(ObxClaim *claim, int64 event_id);

/* Likewise where the use is a row that was inserted into outbox.schedule. */
extern void obx_claim_leave(ObxClaim *claim);

/*
 * The use of a key at that time by an event that was scheduled, in the
 * transaction that deletes its row and appends it.
 */
extern void obx_claim_complete(Datum key, TimestampTz time, int64 event_id);

/*
 * Forgets keys that are older than the window, as far as that can be done
 * without waiting.  In a transaction of its own; takes no transaction id when
 * there is nothing to do.
 */
extern void obx_claim_forget(void);

#endif							/* OBX_ONCE_H */
