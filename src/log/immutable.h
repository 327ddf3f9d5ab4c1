/*
 * The log refuses changes.
 */
#ifndef OBX_IMMUTABLE_H
#define OBX_IMMUTABLE_H

/* Retention may truncate while this is on; off again when a transaction ends. */
extern void obx_immutable_suspend(bool suspend);

/*
 * After an ALTER TABLE: what guards a table of ours is enabled always, or the
 * command is refused.  Where the log may be loaded, it may also be disabled.
 */
extern void obx_immutable_follow(Oid relid);

/* From _PG_init, before the rooms that make what was loaded fit the log. */
extern void obx_immutable_init(void);

#endif							/* OBX_IMMUTABLE_H */
