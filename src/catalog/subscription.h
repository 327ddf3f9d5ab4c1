/*
 * Rows of outbox.subscription.
 */
#ifndef OBX_SUBSCRIPTION_H
#define OBX_SUBSCRIPTION_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "utils/snapshot.h"

typedef enum ObxKind
{
	OBX_KIND_FUNCTION,
	OBX_KIND_CHANNEL,
	OBX_KIND_PULL,
	OBX_KIND_AGGREGATE
} ObxKind;

typedef enum ObxOrdering
{
	OBX_ORDERING_KEY,
	OBX_ORDERING_STRICT,
	OBX_ORDERING_NONE
} ObxOrdering;

typedef enum ObxArgument
{
	OBX_ARGUMENT_NONE,
	OBX_ARGUMENT_EVENT,
	OBX_ARGUMENT_EVENT_ARRAY,
	OBX_ARGUMENT_JSONB,
	OBX_ARGUMENT_REDUCER		/* two: the state so far, and an event */
} ObxArgument;

/* A subscription; strings live in the memory context it was read into. */
typedef struct ObxSubscription
{
	int32		id;
	char	   *name;
	Oid			owner;
	ObxKind		kind;
	int			ntypes;
	char	  **types;
	char	   *handler_schema; /* NULL but for functions and aggregates */
	char	   *handler_name;
	ObxArgument handler_argument;
	char	   *channel;		/* NULL but for channels */
	char	   *filter;			/* NULL for none */
	ObxOrdering ordering;
	int			concurrency;
	int			batch_size;
	int			max_attempts;
	int64		backoff;		/* microseconds, as are the next two */
	int64		max_backoff;
	int64		timeout;		/* 0 for none */
	bool		block_on_exhausted;
	bool		payload_event;	/* channels: the whole event, not a reference */
	char	   *search_path;
	bool		paused;
	Datum		start_snapshot; /* pg_snapshot, 0 for none */
	int64		first_position; /* where its lanes began */
	int			nhistory;
	int64	   *history;		/* numbers that dispatch/former_lanes.c reads */
	TimestampTz created_at;

	/* aggregates: what is emitted, and what makes a window complete */
	char	   *emit_type;
	int64		max_events;		/* 0 for no such limit, as are the next two */
	int64		quiet;			/* microseconds */
	int64		period;
	char	   *until;			/* NULL for none */

	/* while paused */
	char	   *paused_by;		/* name of the role; NULL: by ourselves, in a
								 * copied database */
	TimestampTz paused_at;		/* 0: not known */

	int32		seeks;			/* how often it was moved */
	int64		delivered_at_seek;	/* by all lanes, before the last time */
} ObxSubscription;

/* NULL when there is none; read with a new snapshot, into CurrentMemoryContext. */
extern ObxSubscription *obx_subscription_find(int32 id);
extern ObxSubscription *obx_subscription_find_by_name(const char *name);

/* As above, but an error names the missing one. */
extern ObxSubscription *obx_subscription_require(const char *name);

/* All of them, by id. */
extern List *obx_subscription_list(void);

/* Inserts a new one, with an id of its own, which is returned. */
extern int32 obx_subscription_insert(ObxSubscription *subscription);
extern void obx_subscription_update(const ObxSubscription *subscription);
extern void obx_subscription_delete(const ObxSubscription *subscription);

/*
 * After what stands for subscriptions (catalog/owner.h) got another owner, or
 * was dropped: the rows follow.  True if one did.  Takes the lock of each
 * subscription that changes; one that is not free is left out unless "wait".
 */
extern bool obx_subscription_follow_owners(bool wait);
extern bool obx_subscription_follow_owner(int32 id, bool wait);
extern bool obx_subscription_follow_drop(const char *type);

/* Of one that is not found: was it this transaction that deleted it? */
extern bool obx_subscription_is_deleted_here(int32 id);

/* In memory; "by" is the role that does so, NULL for ourselves. */
extern void obx_subscription_set_paused(ObxSubscription *subscription, bool paused,
										const char *by);

extern const char *obx_kind_name(ObxKind kind);
extern const char *obx_subscription_ordering(ObxOrdering ordering);
extern const char *obx_subscription_argument(ObxArgument argument);

#endif							/* OBX_SUBSCRIPTION_H */
