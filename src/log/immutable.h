/*
 * The log refuses changes.
 */
#ifndef OBX_IMMUTABLE_H
#define OBX_IMMUTABLE_H

/* Retention may truncate while this is on; off again when a transaction ends. */
extern void obx_immutable_suspend(bool suspend);

#endif							/* OBX_IMMUTABLE_H */
