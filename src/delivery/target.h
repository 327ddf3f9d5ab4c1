/*
 * A target: where the events of a subscription go.
 */
#ifndef OBX_TARGET_H
#define OBX_TARGET_H

#include "base/limit.h"
#include "catalog/subscription.h"
#include "datatype/timestamp.h"
#include "emit/context.h"
#include "executor/tuptable.h"
#include "log/event.h"
#include "utils/jsonb.h"

/* An event in the hands of a batch. */
typedef struct ObxTargetEvent
{
	int64		position;
	int64		id;
	int			attempt;		/* 1 at the first */
	bool		is_replay;
	TimestampTz positioned_at;	/* when it got its position; aggregates only */
	HeapTuple	tuple;			/* of outbox.event; a composite datum, unless
								 * values are out of line */

	/* what events emitted by the call inherit */
	int64		causation_id;	/* 0 for none */
	const text *correlation_id; /* NULL for none */
	const struct varlena *headers;	/* jsonb, NULL for none */
} ObxTargetEvent;

typedef struct ObxTarget ObxTarget;

struct ObxTarget
{
	const ObxSubscription *subscription;
	TupleDesc	tupdesc;		/* of outbox.event */
	bool		takes_batch;	/* wants all events of a batch in one call */
	bool		runs_code;		/* that is the subscriber's */

	/*
	 * Delivers "count" events (1 unless takes_batch); raises what the
	 * subscriber raises.
	 */
	void		(*deliver) (ObxTarget *target, const ObxTargetEvent *events, int count);

	/*
	 * For targets that keep something from one call to the next, else NULL. A
	 * run of calls has ended, which stands or was undone; and the last one
	 * has: what is kept is written as of a version of the lane's progress.
	 * save returns when it is due by time, at the earliest; 0 for never.
	 */
	void		(*end_run) (ObxTarget *target, bool undone);
	TimestampTz (*save) (ObxTarget *target, int64 version);
};

/*
 * Opens the subscription's target, in CurrentMemoryContext.  Raises an error
 * if it cannot work at all (handler missing, not executable by the owner).
 */
extern ObxTarget *obx_target_open(const ObxSubscription *subscription);

/* How long a call may take, in microseconds, 0 for no limit: outbox.max_timeout counts. */
extern int64 obx_target_time_limit(const ObxSubscription *subscription);

/* What surrounds a call, on the caller's stack. */
typedef struct ObxCall
{
	int			nest_level;
	ObxLimit	former;
} ObxCall;

/*
 * Around each call of the subscriber's code, which begins now (by
 * obx_clock_now()): time limit, nested settings, deferred constraints.  After
 * an error the guard around (base/guard.h) undoes what end would have.
 */
extern void obx_call_begin(ObxCall *call, const ObxSubscription *subscription,
						   TimestampTz now);
extern void obx_call_end(const ObxCall *call);

/* Delivers in the way of the target, with that around it where it runs code. */
extern void obx_target_deliver(ObxTarget *target, const ObxTargetEvent *events, int count,
							   TimestampTz now);

/* For the kinds: what they have in common. */
extern void obx_target_init(ObxTarget *target, const ObxSubscription *subscription);

/* The kinds. */
extern ObxTarget *obx_function_open(const ObxSubscription *subscription);
extern ObxTarget *obx_channel_open(const ObxSubscription *subscription);
extern ObxTarget *obx_aggregate_open(const ObxSubscription *subscription);

/*
 * The function that a subscription's handler names now; ereports if there is
 * none or it cannot be a handler, or "owner" may not call it.
 */
extern Oid	obx_handler_require(const char *schema, const char *name, ObxArgument argument,
								Oid owner);

/* What events emitted in a call for this event inherit; a batch hands nothing down. */
extern void obx_event_hand_down(const ObxTarget *target, const ObxTargetEvent *event,
								ObxContext *context);

/* An event as one object, with its position. */
extern Jsonb *obx_event_to_jsonb(TupleDesc tupdesc, HeapTuple tuple, int64 position);

#endif							/* OBX_TARGET_H */
