/*
 * The condition that makes an aggregate's window complete: a boolean SQL
 * expression over the state.
 */
#ifndef OBX_COMPLETION_H
#define OBX_COMPLETION_H

#include "catalog/subscription.h"
#include "utils/jsonb.h"

typedef struct ObxCompletion ObxCompletion;

/*
 * Raises an error unless the subscription's condition is one boolean
 * expression that its owner may evaluate; evaluates nothing.  As the owner, in
 * its search_path.
 */
extern void obx_completion_check(const ObxSubscription *subscription);

/*
 * Opens the condition, in CurrentMemoryContext; raises an error if it cannot
 * work at all any more.  NULL for a subscription without one.
 */
extern ObxCompletion *obx_completion_open(const ObxSubscription *subscription);

/* Does it hold of the state, which may be NULL?  Raises what it raises. */
extern bool obx_completion_holds(ObxCompletion *until, Jsonb *state);

/* After an error: what the evaluation left half done is not used again. */
extern void obx_completion_reset(ObxCompletion *until);

#endif							/* OBX_COMPLETION_H */
