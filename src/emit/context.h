/*
 * What an event inherits from where it is emitted: correlation, cause and
 * headers, from the event whose handler runs or from the session's settings.
 */
#ifndef OBX_CONTEXT_H
#define OBX_CONTEXT_H

#include "utils/jsonb.h"

/* Value of causation_id below if it is no event's id. */
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
 * The correlation id and the cause of an event emitted now, from the settings
 * and the context.  NULL for no correlation id; in the current memory context.
 */
extern const char *obx_context_correlation(void);

/*
 * The headers of an event emitted now; "own" (or NULL) are those it was given.
 * They are merged from, lowest precedence first: outside of a handler, the
 * traceparent of a comment; inherited or session headers; the session's
 * traceparent; its own headers.  May return "own" itself.
 */
extern Jsonb *obx_context_headers(Jsonb *own);

#endif							/* OBX_CONTEXT_H */
