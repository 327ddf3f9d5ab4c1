/*
 * Events that are handed out: which ones they are, and that they have failed.
 */
#ifndef OBX_HANDED_H
#define OBX_HANDED_H

#include "pull/lane.h"

/* Is it one that is handed out as a retry?  ereports for one that is not handed out. */
extern bool obx_handed_is_retry(const ObxProgress *progress, int64 position);

/* Which of the positions are handed out as retries, or else as owed, ascending. */
extern int64 *obx_handed_list(const ObxProgress *progress, const int64 *positions,
							  int npositions, bool retries, int *count);

/* Which events failed, and how. */
typedef struct ObxNack
{
	const int64 *positions;		/* ascending */
	int			npositions;
	const char *error;			/* NULL: no reason given */
	int64		delay;			/* microseconds until they are handed out
								 * again; -1: the backoff */
	bool		final;			/* dead letters at once */
	bool		may_be_gone;	/* what retention has dropped is left alone */
} ObxNack;

/* Events have failed: they, and those that must wait for them, are not handed out any more. */
extern void obx_handed_fail(ObxPullLane *work, const ObxNack *nack, int sqlstate);

/* Counts off so many of the events for which the lane is careful. */
extern void obx_handed_settle(ObxProgress *progress, int count);

#endif							/* OBX_HANDED_H */
