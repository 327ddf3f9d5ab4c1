/*
 * Why subscriptions are behind, in words.
 */
#ifndef OBX_BEHIND_H
#define OBX_BEHIND_H

#include "lib/stringinfo.h"

#include "catalog/subscription.h"

/* Why the subscription has not dealt with all up to the position. */
extern void obx_behind_explain(StringInfo out, const ObxSubscription *subscription,
							   int64 position);

/* Of a paused subscription: "paused", by whom and since when. */
extern void obx_behind_explain_pause(StringInfo out, const ObxSubscription *subscription);

/*
 * What the workers of a subscription with so many lanes lack, NULL if nothing.
 */
extern const char *obx_behind_find_obstacle(int32 subscription, Oid owner, int lanes);

/* What the workers are to it. */
extern void obx_behind_explain_workers(StringInfo out, const ObxSubscription *subscription);

/* Why events that are committed have no positions. */
extern void obx_behind_explain_log(StringInfo out);

#endif							/* OBX_BEHIND_H */
