/*
 * Targets that are aggregates, as dispatch knows them beyond what all targets
 * have in common.
 */
#ifndef OBX_AGGREGATE_H
#define OBX_AGGREGATE_H

#include "catalog/window.h"
#include "delivery/target.h"

extern ObxTarget *obx_aggregate_open(const ObxSubscription *subscription);

/*
 * Completes a window that the table holds because its time has come.  Raises
 * an error if its event cannot be emitted.  end_run and save as for
 * deliveries.
 */
extern void obx_aggregate_complete(ObxTarget *target, const ObxWindow *window);

/* Puts that off. */
extern void obx_aggregate_postpone(ObxTarget *target, const ObxWindow *window,
								   TimestampTz due);

/* When a window is complete by time, by its events; DT_NOEND for never. */
extern TimestampTz obx_aggregate_due(const ObxSubscription *subscription,
									 const ObxWindow *window);

#endif							/* OBX_AGGREGATE_H */
