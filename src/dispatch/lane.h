/*
 * The open deliveries of a lane, and the keys that they block.
 */
#ifndef OBX_LANE_H
#define OBX_LANE_H

#include "catalog/delivery.h"
#include "catalog/subscription.h"
#include "dispatch/lane_key.h"
#include "executor/tuptable.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "storage/lock.h"
#include "utils/hsearch.h"

typedef struct ObxLaneKey
{
	int32		subscription;
	int32		lane;
} ObxLaneKey;

/*
 * Open deliveries that wait for one another: those of one key, or under
 * "strict" all.  Any number can be parked behind the first one, so they are
 * loaded when their turn comes.
 */
typedef struct ObxWaiting
{
	int64		key_hash;		/* hash key */
	dlist_head	open;			/* of ObxOpen, by position */
	dlist_head	retries;		/* those of them that are retries: none or the
								 * first, once fresh */
	bool		stale;			/* changed: in the list of the lane */
	bool		has_more;		/* there may be parked ones that are not
								 * loaded, behind: */
	int64		loaded_to;		/* all up to this position are loaded */
	int			last_item;		/* scratch of who collects a batch */
} ObxWaiting;

/* An open delivery: the part of its row that decides when it is due. */
typedef struct ObxOpen
{
	int64		position;		/* hash key */
	int64		event_id;
	uint64		xid;
	TimestampTz next_at;
	ObxDeliveryState state;
	ObxWaiting *waiting;		/* NULL: waits for none, and none for it */
	dlist_node	node;			/* in waiting->open */
	dlist_node	among_retries;	/* while its state is retry: in
								 * waiting->retries */
	pairingheap_node retry;		/* while its state is retry: in lane->due, if
								 * it was found to be, else in lane->later */
	bool		is_due;
} ObxOpen;

/*
 * A lane as this process knows it, from one pass to the next.  Its contents
 * equal outbox.delivery while the lane's progress has this version: every
 * change of the lane's deliveries also advances its progress.
 */
typedef struct ObxLane
{
	ObxLaneKey	key;			/* hash key */
	int64		version;		/* -1: must be loaded */
	Oid			catalog;		/* OID of outbox.subscription: another one's
								 * lanes have the same numbers */
	SubTransactionId loaded_in; /* if that aborts, the version may be
								 * another's */
	int64		used;			/* when it was loaded last, by a clock of
								 * loads */
	LocalTransactionId used_by; /* the transaction that did */
	ObxOrdering ordering;		/* by which deliveries wait for each other */
	TimestampTz looked_at;		/* at the clock, when it was asked for last */
	int64		longest_wait;	/* for a retry */
	bool		has_own_waits;	/* or longer, if a consumer said so */
	MemoryContext memory;		/* holds what follows; NULL: nothing does */
	bool		is_partial;		/* some key had more than was loaded */
	HTAB	   *open;			/* of ObxOpen, by position; NULL for none */
	HTAB	   *waiting;		/* of ObxWaiting, by key */
	pairingheap *later;			/* retries, the one due next first */
	pairingheap *due;			/* those whose time has come, by position */
	List	   *stale;			/* of ObxWaiting, changed since heads were
								 * refreshed */

	/* hints that need not survive */
	bool		retried_last;	/* the last batch was of retries */
	int64		again_position; /* event being tried again at once */
	int			again_count;
	int64		accused;		/* event that has failed in company, not yet
								 * alone; 0 for none */
	int			singly;			/* so many events are taken one by one */
	int			singly_next;	/* as many the last time */
	int64		singly_until;	/* handlers of several are called for one up
								 * to there */
} ObxLane;

/*
 * The lane as of a version of its progress; the caller holds its lock.  Valid
 * until the transaction ends: lanes that were not used for long are forgotten.
 */
extern ObxLane *obx_lane_load(const ObxSubscription *subscription, int32 lane, int64 version);

/* Must an event of this key wait?  Events without a key never do. */
extern bool obx_lane_is_blocked(const ObxLane *lane, ObxOrderKey key);

/* The same for an event that is not new, but is at this position. */
extern bool obx_lane_is_blocked_at(const ObxLane *lane, ObxOrderKey key,
								   int64 position);

/*
 * These make the lane follow the caller's writes to outbox.delivery: a new
 * row, a changed state, a deleted row.  Call obx_lane_refresh_heads() afterwards.
 */
extern void obx_lane_add(ObxLane *lane, const ObxDelivery *delivery);
extern void obx_lane_change(ObxLane *lane, const ObxDelivery *delivery);
extern void obx_lane_remove(ObxLane *lane, int64 position);

/*
 * After such changes: of each key the first one left is tried next, now if it
 * was parked without an attempt; all those behind it are parked, whatever was
 * changed in which order.  Looks at keys that were changed only, and of them
 * at those that become different, which it writes.
 */
extern void obx_lane_refresh_heads(ObxLane *lane);

/*
 * The due retries before a position, with the events parked behind them: at
 * most "limit", by position.  In CurrentMemoryContext.
 */
extern ObxOpen **obx_lane_list_due(ObxLane *lane, TimestampTz now, int64 before, int limit,
								   int *count);

/* Is the delivery of that position open? */
extern bool obx_lane_has(const ObxLane *lane, int64 position);

/* When the next retry is due; DT_NOEND for never. */
extern TimestampTz obx_lane_due(const ObxLane *lane);

/* Under "strict", the first position that is open; PG_INT64_MAX if none is. */
extern int64 obx_lane_first_strict(const ObxLane *lane);

/* Marks the lane's loaded state as outdated. */
extern void obx_lane_forget(ObxLane *lane);

/*
 * Take the locks for writing before reading: a transaction that reads first
 * and writes later could deadlock with REINDEX.  Code that reads before it has
 * a lane calls this first.
 */
extern void obx_lane_lock_tables(void);

/*
 * Takes the lane's lock, and those of the tables, until the transaction ends;
 * false if someone has it.
 */
extern bool obx_lane_lock(int32 subscription, int32 lane, bool wait);

/*
 * Releases the lock at once; it was taken once, and nothing was changed under
 * it.
 */
extern void obx_lane_unlock(int32 subscription, int32 lane);

/*
 * The subscription's own lock, until the transaction ends: whoever changes its
 * row, or more of a lane than its pass does, takes it first.
 */
extern void obx_subscription_lock(int32 subscription);

/* The same, but false if someone has it. */
extern bool obx_subscription_lock_nowait(int32 subscription);

#endif							/* OBX_LANE_H */
