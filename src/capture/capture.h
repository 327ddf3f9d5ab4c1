/*
 * The capture room's entry for the rest of the extension.
 */
#ifndef OBX_CAPTURE_H
#define OBX_CAPTURE_H

/* Registers invalidation callbacks; from _PG_init only. */
extern void obx_capture_init(void);

#endif							/* OBX_CAPTURE_H */
