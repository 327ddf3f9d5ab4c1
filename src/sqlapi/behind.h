/*
 * Why subscriptions are behind, in words.
 */
#ifndef OBX_BEHIND_H
#define OBX_BEHIND_H

#include "lib/stringinfo.h"

#include "catalog/subscription.h"

/* Explains why the subscription has not handled all events up to the position. */
extern void obx_behind_explain(StringInfo out, const ObxSubscription *subscription,
							   int64 position);

/* Explains a paused subscription: "paused", the role that paused it, and since when. */
extern void obx_behind_explain_pause(StringInfo out, const ObxSubscription *subscription);

/*
 * What the workers of a subscription with so many lanes need and do not have;
 * NULL if nothing.
 */
extern const char *obx_behind_find_obstacle(int32 subscription, Oid owner, int lanes);

/* Explains the state of its workers. */
extern void obx_behind_explain_workers(StringInfo out, const ObxSubscription *subscription);

/* Explains why committed events have no positions. */
extern void obx_behind_explain_log(StringInfo out);

#endif							/* OBX_BEHIND_H */
