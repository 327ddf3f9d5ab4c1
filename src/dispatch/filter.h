/*
 * A subscription's filter: a boolean SQL expression over the event's columns.
 */
#ifndef OBX_FILTER_H
#define OBX_FILTER_H

#include "catalog/subscription.h"
#include "delivery/target.h"

typedef struct ObxFilter ObxFilter;

/*
 * Raises an error unless the subscription's filter is one boolean expression,
 * with names as its owner finds them in its search_path, that its owner may
 * evaluate.  For whoever sets a filter; evaluates nothing.
 */
extern void obx_filter_check(const ObxSubscription *subscription);

/*
 * Opens the filter, in CurrentMemoryContext, in the session that
 * obx_session_prepare() has prepared.  Raises an error if it cannot work at
 * all any more.  NULL for a subscription without one.
 */
extern ObxFilter *obx_filter_open(const ObxSubscription *subscription, TupleDesc tupdesc);

/* Does the event pass?  Raises what the filter raises. */
extern bool obx_filter_passes(ObxFilter *filter, const ObxTargetEvent *event);

/* After an error: what the evaluation left half done is not used again. */
extern void obx_filter_reset(ObxFilter *filter);

#endif							/* OBX_FILTER_H */
