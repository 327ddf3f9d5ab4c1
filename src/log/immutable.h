/*
 * The log refuses changes.
 */
#ifndef OBX_IMMUTABLE_H
#define OBX_IMMUTABLE_H

#include "nodes/nodes.h"

/*
 * While this is on, retention may truncate; off again when a transaction ends.
 */
extern void obx_immutable_suspend(bool suspend);

/*
 * To be called after an ALTER TABLE: the guards of the extension's tables must
 * be enabled always, or the command is refused.  If the log may be loaded,
 * they may also be disabled.  Other columns are refused.
 */
extern void obx_immutable_follow(Oid relid, const Node *command);

/* From _PG_init, before the rooms that make what was loaded fit the log. */
extern void obx_immutable_init(void);

#endif							/* OBX_IMMUTABLE_H */
