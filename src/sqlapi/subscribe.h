/*
 * What all functions that make a subscription have in common.
 */
#ifndef OBX_SUBSCRIBE_H
#define OBX_SUBSCRIBE_H

#include "fmgr.h"

#include "catalog/subscription.h"

/* Begins a new subscription of the caller's, named by the first argument. */
extern void obx_subscribe_begin(FunctionCallInfo fcinfo, ObxSubscription *subscription);

/* Makes it, where all that is asked of it is filled in. */
extern void obx_subscribe_finish(ObxSubscription *subscription, const char *start);

#endif							/* OBX_SUBSCRIBE_H */
