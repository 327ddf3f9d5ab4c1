/*
 * Targets that are functions, and what all handlers have in common.
 */
#ifndef OBX_FUNCTION_H
#define OBX_FUNCTION_H

#include "delivery/target.h"
#include "emit/context.h"

extern ObxTarget *obx_function_open(const ObxSubscription *subscription);

/*
 * The function that a subscription's handler names now; ereports if there is
 * none or it cannot be a handler, or "owner" may not call it.
 */
extern Oid	obx_function_require(const char *schema, const char *name, ObxArgument argument,
								 Oid owner);

/* What events emitted in a call for this event inherit; a batch hands nothing down. */
extern void obx_function_hand_down(const ObxTarget *target, const ObxTargetEvent *event,
								   ObxContext *context);

#endif							/* OBX_FUNCTION_H */
