/*
 * The session that handlers run in.
 */
#ifndef OBX_SESSION_H
#define OBX_SESSION_H

#include "catalog/subscription.h"

/*
 * Before a transaction, in a session that is only the handlers': takes the
 * search_path that the last subscription wanted.  The next one mostly wants
 * the same, and a setting that no transaction changed need not be undone
 * after each call.
 */
extern void obx_session_begin(void);

/*
 * For the rest of the transaction or nest level: the subscription's
 * search_path, and none of the session's own settings for events.
 */
extern void obx_session_prepare(const ObxSubscription *subscription);

/*
 * The latter alone: what a session says of its own events is not the handlers'
 * nor the filters'.
 */
extern void obx_session_hide_settings(void);

/*
 * The transaction has no effects that anybody could miss: its commit need not
 * wait for the disk.
 */
extern void obx_session_commit_later(void);

/*
 * Clears what handlers leave behind in a session that is only theirs:
 * temporary tables, prepared statements, held cursors, session locks.  Inside
 * the batch's transaction, outside of any subtransaction.
 */
extern void obx_session_clear(void);

/* The part of it that outlives an abort, after one; needs no transaction. */
extern void obx_session_abandon(void);

/*
 * Calls check(subscription), which looks names up and calls nothing, as the
 * owner and in its search_path.
 */
extern void obx_session_check_as_owner(const ObxSubscription *subscription,
									   void (*check) (const ObxSubscription *subscription));

#endif							/* OBX_SESSION_H */
