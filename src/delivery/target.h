/*
 * A target: where the events of a subscription go.
 */
#ifndef OBX_TARGET_H
#define OBX_TARGET_H

#include "catalog/subscription.h"
#include "datatype/timestamp.h"
#include "emit/context.h"
#include "executor/tuptable.h"
#include "log/event.h"

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

/* For the kinds: what they have in common. */
extern void obx_target_init(ObxTarget *target, const ObxSubscription *subscription);

#endif							/* OBX_TARGET_H */
