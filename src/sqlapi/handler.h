/*
 * From what a user calls a handler to the function that is meant.
 */
#ifndef OBX_HANDLER_H
#define OBX_HANDLER_H

#include "catalog/subscription.h"

/*
 * Looks the handler up in the caller's search_path, checks it for the
 * subscription's owner, and fills in the subscription's handler_* fields.
 */
extern void obx_handler_resolve(const char *handler, ObxSubscription *subscription);

/* The same for an aggregate's reducer. */
extern void obx_handler_resolve_reducer(const char *reducer, ObxSubscription *subscription);

#endif							/* OBX_HANDLER_H */
