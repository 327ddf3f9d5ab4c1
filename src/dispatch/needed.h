/*
 * From which position on events are still needed.
 */
#ifndef OBX_NEEDED_H
#define OBX_NEEDED_H

/*
 * The first position that some subscription has not dealt with, or that one of
 * its retries or dead letters refers to; PG_INT64_MAX where none does.
 */
extern int64 obx_needed_from(void);

/* From _PG_init: in a database that turns out to be a copy, subscriptions pause. */
extern void obx_dispatch_init(void);

/*
 * Deletes what subscriptions that are gone left in progress and deliveries, and
 * lanes that are gone in progress, where no pass is using it.  Returns how many rows went.
 */
extern int64 obx_remnants_clean(void);

#endif							/* OBX_NEEDED_H */
