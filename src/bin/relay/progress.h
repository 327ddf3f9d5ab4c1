/*
 * Progress that a sink keeps in the same transaction as the events: which of
 * them it has, and the database may not know.
 *
 * An event that is acked never comes again, unless somebody seeks.  So it is
 * enough to list those that were sent and are not known to be acked: what is
 * among them when it is handed out again is left out.  This does not depend on
 * the order in which events come again.
 */
#ifndef OBX_BIN_PROGRESS_H
#define OBX_BIN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"
#include "database/client.h"

typedef struct ObxProgress
{
	int			generation;		/* of the log */
	int64_t		subscription;	/* its number */
	int64_t		seeks;
	int64_t		position;		/* the highest one that was sent */
	int64_t		delivered;		/* so many the database may count as delivered
								 * since the seek, and no more */
	int64_t    *sent;			/* positions, ascending, that are not known to
								 * be acked */
	int			nsent;
} ObxProgress;

extern void obx_progress_clear(ObxProgress *progress);

/* As one JSON object. */
extern void obx_progress_append(ObxText *text, const ObxProgress *progress);

/* False for what is no such object; *progress is clear then. */
extern bool obx_progress_parse(const char *text, ObxProgress *progress);

extern bool obx_progress_has(const ObxProgress *progress, int64_t position);

/* These are acked; ascending. */
extern void obx_progress_remove(ObxProgress *progress, const int64_t * positions, int count);

/* All up to that position are acked. */
extern void obx_progress_remove_to(ObxProgress *progress, int64_t position);

/* Adds these, in any order. */
extern void obx_progress_add(ObxProgress *progress, const int64_t * positions, int count);

/*
 * Does what the sink has fit to where the database stands?  If not, *why is
 * appended to.  "progress" is what the sink has, or NULL; it is made to be of
 * that place in the log: what is of another one lists nothing that counts.
 */
extern bool obx_progress_reconcile(ObxProgress *progress, bool found, const ObxStanding *standing,
								   ObxText *why);

#endif							/* OBX_BIN_PROGRESS_H */
