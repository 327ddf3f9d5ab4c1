/*
 * The transactions that a snapshot regards as ended.
 *
 * A value like SQL's pg_snapshot, widened to 64 bits.  Pure arithmetic.
 */
#ifndef OBX_XID_SNAPSHOT_H
#define OBX_XID_SNAPSHOT_H

typedef struct ObxXidSnapshot
{
	uint64		xmin;			/* everything before has ended */
	uint64		xmax;			/* nothing from here on has ended */
	int			nrunning;
	uint64	   *running;		/* running in between, ascending */
} ObxXidSnapshot;

/* From and to SQL's pg_snapshot. */
extern ObxXidSnapshot *obx_xid_snapshot_from_datum(Datum datum);
extern Datum obx_xid_snapshot_to_datum(const ObxXidSnapshot *snapshot);
extern void obx_xid_snapshot_free(ObxXidSnapshot *snapshot);

/* A snapshot in which no transaction has ended. */
extern ObxXidSnapshot *obx_xid_snapshot_empty(void);

/* Copies it into another memory context, as one piece of memory. */
extern ObxXidSnapshot *obx_xid_snapshot_copy(const ObxXidSnapshot *snapshot, MemoryContext context);

/*
 * Had the transaction ended (committed or not)?  A snapshot does not list the
 * transaction that took it: for that transaction the answer means nothing.
 */
static inline bool
obx_xid_snapshot_has_ended(const ObxXidSnapshot *snapshot, uint64 xid)
{
	int			low = 0;
	int			high = snapshot->nrunning - 1;

	if (xid >= snapshot->xmax)
		return false;
	if (xid < snapshot->xmin)
		return true;
	while (low <= high)
	{
		int			middle = (low + high) / 2;

		if (snapshot->running[middle] == xid)
			return false;
		if (snapshot->running[middle] < xid)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return true;
}

#endif							/* OBX_XID_SNAPSHOT_H */
