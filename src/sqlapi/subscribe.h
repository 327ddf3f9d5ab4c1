/*
 * Shared by all functions that make a subscription.
 */
#ifndef OBX_SUBSCRIBE_H
#define OBX_SUBSCRIBE_H

#include "fmgr.h"

#include "catalog/subscription.h"

/*
 * Begins a subscription that is named by the first argument: a new one of the
 * caller's, or what is asked of the existing one, which is set and locked then.
 * False: it exists and is kept as it is, which a NOTICE has said.  "if_exists"
 * is the number of that argument.
 */
extern bool obx_subscribe_begin(FunctionCallInfo fcinfo, int if_exists,
								ObxSubscription *subscription, ObxSubscription **existing);

/*
 * Makes the subscription, or alters the existing one, after all its properties
 * are filled in.  "start" is the number of that argument.
 */
extern void obx_subscribe_finish(FunctionCallInfo fcinfo, int start, const char *function,
								 ObxSubscription *subscription, ObxSubscription *existing);

#endif							/* OBX_SUBSCRIBE_H */
