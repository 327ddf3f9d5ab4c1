/*
 * Making and dropping rules.
 */
#ifndef OBX_DEFINE_H
#define OBX_DEFINE_H

#include "utils/rel.h"

#include "capture/condition.h"
#include "capture/rule.h"

/* ereports unless changes of that relation can be captured */
extern void obx_rule_check_relation(Relation rel);

/*
 * Looks the rule's condition up, with the rights of the table's owner, and
 * fills in rule->operations, where 0 stands for those that the condition
 * allows.  NULL without a condition.
 */
extern ObxCondition *obx_rule_resolve(Relation rel, ObxRule *rule);

/*
 * Makes the triggers of a rule, on tables below it too.  The caller holds
 * SHARE ROW EXCLUSIVE on the table and has checked everything but the
 * condition.
 */
extern void obx_rule_create(Relation rel, ObxRule *rule);

/* Drops the rules of that name, or all rules; returns the number of rules dropped. */
extern int	obx_rule_drop(Relation rel, const char *name);

#endif							/* OBX_DEFINE_H */
