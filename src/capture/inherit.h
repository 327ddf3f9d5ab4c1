/*
 * Rules along partitioning and inheritance.
 */
#ifndef OBX_INHERIT_H
#define OBX_INHERIT_H

#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "utils/rel.h"

/*
 * Gives all tables below the clones of rules that PostgreSQL does not make:
 * of TRUNCATE, and of all where inheritance is not partitioning.  Takes SHARE
 * ROW EXCLUSIVE on those that lack one.
 */
extern void obx_rule_spread(Oid relid);

/*
 * Gives a table what it lacks of the rules directly above it, and counts what it
 * made; false if a lock was not to be had at once.
 */
extern bool obx_rule_inherit(Oid relid, int *made);

/*
 * Where the command enables or disables triggers of the table that are a rule's,
 * those below follow that PostgreSQL leaves alone; and those that were ENABLE
 * ALWAYS are so again after ENABLE TRIGGER ALL, with which every restore of data
 * ends that disables triggers.
 */
extern void obx_rule_follow_enabled(Oid relid, Node *command);

/* Removes from a table the clones of rules of tables that it left. */
extern void obx_rule_leave(Oid relid);

/*
 * Lets the owner of a partitioned table with rules make partitions of it,
 * for which PostgreSQL asks for EXECUTE on the triggers' functions.  Takes no
 * lock on it.
 */
extern void obx_rule_permit_partitions(Oid relid);

/*
 * Writes into the rules that are the table's own what its key is by default;
 * true if that was another one before, and then what it was.
 */
extern bool obx_rule_set_default_key(Relation rel, List **former, List **current);

/* Writes a new version of the columns into the rules that are the table's own. */
extern void obx_rule_set_version(Oid relid, int version);

/* Writes a column's new name into the rules of a table, and their clones. */
extern void obx_rule_rename_column(Oid relid, const char *old_name, const char *new_name);

#endif							/* OBX_INHERIT_H */
