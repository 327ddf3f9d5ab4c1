/*
 * Who keeps the log's tables from being locked, for long.
 */
#ifndef OBX_HOLDERS_H
#define OBX_HOLDERS_H

#include "nodes/pg_list.h"

#define OBX_HOLDERS	100

/* What one kind of work has met, zeroed at first. */
typedef struct ObxHolders
{
	int			refusals;		/* in a row */
	int			count;
	int			pids[OBX_HOLDERS];	/* held locks each time; 0: prepared
									 * transactions */
} ObxHolders;

/*
 * A lock on one of the tables could not be had.  After some refusals in a row
 * that the same processes had a part in, once: returns words for these, in
 * CurrentMemoryContext.  Else NULL.
 */
extern const char *obx_holders_refused(ObxHolders *holders, const List *relids);

/* It could be had. */
extern void obx_holders_forget(ObxHolders *holders);

#endif							/* OBX_HOLDERS_H */
