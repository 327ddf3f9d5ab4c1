/*
 * From which position on events are still needed.
 */
#ifndef OBX_RETENTION_FLOOR_H
#define OBX_RETENTION_FLOOR_H

/*
 * The first position that some subscription has not dealt with, or that one of
 * its retries or dead letters refers to; PG_INT64_MAX where none does.
 */
extern int64 obx_retention_floor(void);

/* From _PG_init: in a database that turns out to be a copy, subscriptions pause. */
extern void obx_retention_floor_init(void);

#endif							/* OBX_RETENTION_FLOOR_H */
