/*
 * Rows of outbox.delivery: events of a subscription that are exceptions.
 */
#ifndef OBX_DELIVERY_H
#define OBX_DELIVERY_H

#include "datatype/timestamp.h"
#include "utils/elog.h"

typedef enum ObxDeliveryState
{
	OBX_DELIVERY_RETRY,			/* awaits its next attempt */
	OBX_DELIVERY_PARKED,		/* waits behind its key */
	OBX_DELIVERY_DEAD			/* given up */
} ObxDeliveryState;

/* The key that an event is ordered by, as far as order needs it. */
typedef struct ObxOrderKey
{
	bool		has;			/* false: it has none */
	int64		hash;			/* 0 then */
} ObxOrderKey;

typedef struct ObxDelivery
{
	int32		subscription;
	int32		lane;
	int64		position;
	ObxDeliveryState state;
	bool		open;			/* its key waits for it */
	ObxOrderKey key;
	uint64		xid;
	int64		event_id;
	int			attempts;		/* that failed */
	TimestampTz next_at;		/* DT_NOEND for none */
	/* of the last failure; NULL before the first one */
	char	   *sqlstate;
	char	   *error;
	char	   *error_detail;
	char	   *error_context;
	TimestampTz failed_at;
	Datum		history;		/* jsonb of dispatch/attempts.c; 0 for none */
} ObxDelivery;

/*
 * Is shown rows one by one, by position, as they were when the visit began;
 * false ends it.  It may change or delete them, and runs in memory that is
 * emptied after each.
 */
typedef bool (*ObxDeliveryVisitor) (ObxDelivery *delivery, void *arg);

/* All of a subscription. */
extern void obx_delivery_visit(int32 subscription, ObxDeliveryVisitor visit, void *arg);

/* The open ones of a lane. */
extern void obx_delivery_visit_open(int32 subscription, int32 lane, ObxDeliveryVisitor visit,
									void *arg);

/*
 * Of the open ones of a lane, key by key, the first ones of each, so many at
 * most; and all of those without a key.
 */
extern void obx_delivery_visit_first(int32 subscription, int32 lane, int most,
									 ObxDeliveryVisitor visit, void *arg);

/* The open ones of a lane behind a position; of one key, unless that is NULL. */
extern void obx_delivery_visit_behind(int32 subscription, int32 lane, const int64 *key_hash,
									  int64 position, ObxDeliveryVisitor visit, void *arg);

/* Does one of them, up to a position, wait for its delivery? */
extern bool obx_delivery_is_waiting(int32 subscription, int32 lane, int64 position);

/* The lowest position among all of a subscription's, 0 if it has none. */
extern int64 obx_delivery_oldest(int32 subscription);

extern ObxDelivery *obx_delivery_find(int32 subscription, int64 position);

/* Inserts a row, or replaces the dead letter that a replay has come by again. */
extern void obx_delivery_insert(const ObxDelivery *delivery);
extern void obx_delivery_update(const ObxDelivery *delivery);
extern void obx_delivery_delete(int32 subscription, int64 position);

/*
 * So many of a subscription's at most, by position, from one on; *from is where to go on,
 * if the transaction commits.  Returns how many: less than "limit" at the end.
 */
extern int	obx_delivery_delete_some(int32 subscription, int64 *from, int limit);

/*
 * Notes the failure as the subscription's last one, for outbox.status; waits
 * for nobody.  Position 0 says that it cannot run at all: false, if that is
 * noted already.
 */
extern bool obx_failure_record(int32 subscription, int64 position, const char *error);

/* Why it cannot run at all, as was noted; NULL: it can. */
extern char *obx_failure_find(int32 subscription);

/* It runs, or is to try: true if it was noted that it cannot. */
extern bool obx_failure_clear(int32 subscription);

/* The caller holds the locks of all lanes. */
extern void obx_failure_delete(int32 subscription);

#endif							/* OBX_DELIVERY_H */
