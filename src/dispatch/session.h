/*
 * The session that handlers run in.
 */
#ifndef OBX_SESSION_H
#define OBX_SESSION_H

#include "catalog/subscription.h"

/* For the rest of the transaction: the subscription's search_path. */
extern void obx_session_prepare(const ObxSubscription *subscription);

/*
 * Clears what handlers leave behind in a session that is only theirs:
 * temporary tables, prepared statements, held cursors, session locks.  Inside
 * the batch's transaction, outside of any subtransaction.
 */
extern void obx_session_clear(void);

#endif							/* OBX_SESSION_H */
