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
 * with names resolved in its owner's search_path, that its owner may evaluate.
 * For code that sets a filter; evaluates nothing.
 */
extern void obx_filter_check(const ObxSubscription *subscription);

/*
 * Opens the filter, in CurrentMemoryContext, in the session that
 * obx_session_prepare() has prepared.  Raises an error if the filter cannot
 * work at all any more.  NULL for a subscription without one.
 */
extern ObxFilter *obx_filter_open(const ObxSubscription *subscription, TupleDesc tupdesc);

/* Does the event pass?  Raises what the filter raises. */
extern bool obx_filter_passes(ObxFilter *filter, const ObxTargetEvent *event);

/*
 * For whoever only wants to know: opens the filter, in CurrentMemoryContext,
 * if it is plain (base/plain.h), so that evaluating it anywhere runs nothing of
 * the user's and does nothing.  Else NULL, as for a
 * filter that cannot work any more.  In any session, whoever the owner is.
 */
extern ObxFilter *obx_filter_open_plain(const ObxSubscription *subscription,
										TupleDesc tupdesc);

/*
 * Asks such a filter, as the subscription's owner: 1 for yes, 0 for no, -1 if
 * it raises an error.
 */
extern int	obx_filter_ask(ObxFilter *filter, HeapTuple event);

/*
 * To be called after an error: the state of an unfinished evaluation is not
 * used again.
 */
extern void obx_filter_reset(ObxFilter *filter);

#endif							/* OBX_FILTER_H */
