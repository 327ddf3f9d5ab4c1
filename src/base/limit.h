/*
 * Time limits on what runs.
 */
#ifndef OBX_LIMIT_H
#define OBX_LIMIT_H

#include "datatype/timestamp.h"

/* What was in force before; on the caller's stack, it needs no freeing. */
typedef struct ObxLimit
{
	int			depth;			/* limits around each other, with or without a
								 * deadline */
	TimestampTz deadline;		/* the first of theirs, 0 for none */
	int			owner;			/* the depth that it belongs to */
} ObxLimit;

/*
 * From "now" on, what runs is cancelled after so many microseconds, 0 for never.
 * A limit around it stays in force.
 */
extern void obx_limit_begin(ObxLimit *former, int64 microseconds, TimestampTz now);

/* Raises the cancel that is under way, if any. */
extern void obx_limit_end(const ObxLimit *former);

/*
 * For a place where errors are caught: what is in force there, to be put back
 * by obx_limit_restore(), which does not raise.  That returns true if a limit
 * begun since then had run out: then the error is that limit's, and a cancel
 * that is under way is taken back.
 */
extern void obx_limit_save(ObxLimit *here);
extern bool obx_limit_restore(const ObxLimit *here);

#endif							/* OBX_LIMIT_H */
