/*
 * Making partitions of the log before they are needed.
 */
#ifndef OBX_AHEAD_H
#define OBX_AHEAD_H

typedef enum ObxAhead
{
	OBX_AHEAD_ENOUGH,			/* there was nothing to make */
	OBX_AHEAD_MADE,				/* one was made; there may be more to make */
	OBX_AHEAD_LATER				/* something is in use: try again */
} ObxAhead;

/*
 * Makes the next partition that is needed now or soon, in the current
 * transaction, as the log's owner.  The transaction should end soon, because
 * writers to the default partition wait for it.  *urgent: there is no
 * partition for the present time, and events go to the default one.  Then the
 * lock is waited for if may_wait, and producers behind us wait for that time.
 * Callers that wait must pause between their attempts.
 */
extern ObxAhead obx_ahead_prepare(bool may_wait, bool *urgent);

#endif							/* OBX_AHEAD_H */
