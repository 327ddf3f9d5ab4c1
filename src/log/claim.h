/*
 * Claims: doing something once only, by a key.
 */
#ifndef OBX_CLAIM_H
#define OBX_CLAIM_H

#include "storage/lock.h"

#include "catalog/seen.h"

typedef struct ObxClaim
{
	ObxSeenKey	key;
	LOCKTAG		lock;
	TimestampTz time;
	int64		turn;
} ObxClaim;

/*
 * Asks for a key, both texts checked; "consumer" is empty for a publisher's.
 * True: nobody has used it within outbox.idempotency_window.  Then nobody else
 * can until obx_claim_finish(), which must follow in this subtransaction and
 * soon; and who asks later waits for this transaction's end.
 *
 * False: it has been used.  *event_id is the event of then, 0 while that has
 * none.  Waits for open transactions that have used the key.
 *
 * In a transaction of one snapshot, a use that this does not show is a
 * serialization failure.
 */
extern bool obx_claim_begin(ObxClaim *claim, Datum consumer, Datum key, int64 *event_id);

/* Records the use; the transaction's rollback, or a savepoint's, frees the key. */
extern void obx_claim_finish(ObxClaim *claim, int64 event_id);

/* The event of a key that was claimed at that time without one. */
extern void obx_claim_complete(Datum key, TimestampTz time, int64 event_id);

/*
 * Forgets keys that are older than the window, as far as that can be done
 * without waiting.  In a transaction of its own; takes no transaction id when
 * there is nothing to do.
 */
extern void obx_claim_forget(void);

#endif							/* OBX_CLAIM_H */
