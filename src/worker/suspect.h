/*
 * Suspects: events that were being handled when a dispatcher ended without
 * having been asked to.
 */
#ifndef OBX_SUSPECT_H
#define OBX_SUSPECT_H

#include "worker/slot.h"

/* What is known of a lane.  Under obx_slots->lock. */
typedef struct ObxSuspect
{
	Oid			database;		/* InvalidOid: free */
	int32		subscription;
	int32		lane;
	int64		position;		/* 0: not known which one it is */
	int			careful;		/* then, how many events to take at most */
} ObxSuspect;

extern void obx_suspect_init(void);

/* The lane's, or NULL.  Locked or shared. */
extern ObxSuspect *obx_suspect_find(Oid database, int32 subscription, int32 lane);

/* Notes what the dispatcher in that slot was at, if anything.  Locked. */
extern void obx_suspect_note(const ObxSlot *slot);

/* How many events a careful lane may take when so many have gone well; 0: any. */
extern int	obx_suspect_widen(int careful, int batch_size);

/*
 * The lane has been served: "handled" events, the one suspected among them or
 * gone if "cleared".  A batch may hold twice as many then, up to batch_size,
 * and who has come so far is free.  Locked.
 */
extern void obx_suspect_clear(ObxSuspect *suspect, int64 handled, bool cleared,
							  int batch_size);

#endif							/* OBX_SUSPECT_H */
