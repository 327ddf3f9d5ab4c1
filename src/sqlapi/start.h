/*
 * Where in the log a subscription starts, or goes on.
 */
#ifndef OBX_START_H
#define OBX_START_H

#include "datatype/timestamp.h"

#include "catalog/subscription.h"

/*
 * The position to deliver first, from subscribe()'s "start"; for 'now' also
 * fills in what is not to be delivered.  Pins retention.
 */
extern int64 obx_start_find(const char *start, ObxSubscription *subscription);

/* ereports unless the position, given as that text, is kept or the next to come. */
extern void obx_start_check(int64 position, const char *given);

/* The first position of a segment made at or after that time, or the next to come. */
extern int64 obx_start_at_time(TimestampTz time);

#endif							/* OBX_START_H */
