/*
 * What an event inherits from where it is emitted: correlation, cause and
 * headers, from the event whose handler runs or from the session's settings.
 */
#ifndef OBX_CONTEXT_H
#define OBX_CONTEXT_H

#include "utils/jsonb.h"

/* For causation_id below, where it is no event's id. */
#define OBX_CAUSE_UNKNOWN	0
#define OBX_CAUSE_NONE		(-1)

/*
 * The event being handled.  Set around a handler's call; everything in it
 * lives as long as that call.
 */
typedef struct ObxContext
{
	const char *subscription;
	int64		position;		/* 0 in a batch handler that inherits from
								 * none */
	int			attempt;		/* 1 at the first call */
	bool		is_replay;
	int64		event_id;		/* the cause of what is emitted, 0 for none */
	int64		causation_id;	/* that event's own cause: OBX_CAUSE_NONE, or
								 * OBX_CAUSE_UNKNOWN: the log tells */
	const char *correlation_id; /* NULL for none */
	Jsonb	   *headers;		/* of the event, NULL for none */
} ObxContext;

/* Between these two the session handles *context; they do not nest. */
extern void obx_context_enter(const ObxContext *context);
extern void obx_context_leave(void);

/* NULL outside a handler. */
extern const ObxContext *obx_context_current(void);

/*
 * What the settings and the context say of an event emitted now.  NULL for no
 * correlation id; in the current memory context.
 */
extern const char *obx_context_correlation(void);

/*
 * The headers of an event emitted now, "own" (or NULL) being those it was
 * given: inherited or session headers, under the session's traceparent, under
 * its own; below them all, outside of a handler, that of a comment.  May return "own" itself.
 */
extern Jsonb *obx_context_headers(Jsonb *own);

#endif							/* OBX_CONTEXT_H */
