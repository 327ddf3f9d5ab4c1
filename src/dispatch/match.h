/*
 * Does an event match a subscription?
 */
#ifndef OBX_MATCH_H
#define OBX_MATCH_H

#include "catalog/subscription.h"
#include "executor/tuptable.h"

/*
 * Does the string match the pattern?  "*" stands for any run of characters,
 * everything else for itself.  Bytes are compared.
 */
extern bool obx_pattern_matches(const char *pattern, const char *string, int length);

/* Does it match any of them? */
extern bool obx_patterns_match(char *const *patterns, int npatterns, const char *string,
							   int length);

/* Does it ask for events of this type? */
extern bool obx_subscription_wants_type(const ObxSubscription *subscription, const text *type);

/* Likewise for an event in the layout of outbox.event. */
extern bool obx_subscription_wants_event(const ObxSubscription *subscription,
										 TupleTableSlot *event);

#endif							/* OBX_MATCH_H */
