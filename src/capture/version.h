/*
 * Versions of captured tables.
 */
#ifndef OBX_VERSION_H
#define OBX_VERSION_H

#include "nodes/nodes.h"
#include "utils/rel.h"

/*
 * The version of a table for which a rule is being made; records it unless
 * that was done.  Under SHARE ROW EXCLUSIVE.
 */
extern int	obx_version_begin(Relation rel);

/*
 * Records a new version of a captured table if its columns changed, and
 * writes its number into the rules; also of the tables below that have rules
 * of their own.  "command" is what changed it, NULL if something that it
 * depends on was dropped.  Under the lock of the command.
 */
extern void obx_version_follow(Oid relid, Node *command);

/* From _PG_init: versions that a restore left out are recorded again. */
extern void obx_version_init(void);

#endif							/* OBX_VERSION_H */
