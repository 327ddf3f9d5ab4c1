/*
 * Making subscriptions fit a log that was loaded.
 */
#ifndef OBX_RESTORE_H
#define OBX_RESTORE_H

/* From _PG_init. */
extern void obx_restore_init(void);

#endif							/* OBX_RESTORE_H */
