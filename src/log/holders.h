/*
 * The processes that keep the log's tables from being locked for long.
 */
#ifndef OBX_HOLDERS_H
#define OBX_HOLDERS_H

#include "nodes/pg_list.h"

#define OBX_HOLDERS	100

/* The refusals that one kind of work has met; zeroed at first. */
typedef struct ObxHolders
{
	int			refusals;		/* in a row */
	int			count;
	int			pids[OBX_HOLDERS];	/* held locks each time; 0: prepared
									 * transactions */
} ObxHolders;

/*
 * To be called when a lock on one of the tables was not free.  Returns a text
 * that names the processes, in CurrentMemoryContext, once after several
 * refusals in a row to which the same processes contributed.  Otherwise NULL.
 */
extern const char *obx_holders_refused(ObxHolders *holders, const List *relids);

/* To be called when the lock was free. */
extern void obx_holders_forget(ObxHolders *holders);

#endif							/* OBX_HOLDERS_H */
