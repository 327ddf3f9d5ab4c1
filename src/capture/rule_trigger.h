/*
 * Triggers of rules, as the catalog has them.
 */
#ifndef OBX_RULE_TRIGGER_H
#define OBX_RULE_TRIGGER_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/objectaddress.h"
#include "nodes/nodes.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"

#include "capture/rule.h"

/* A trigger that belongs to a rule, as pg_trigger has it. */
typedef struct ObxRuleTrigger
{
	Oid			trigger;
	Oid			parent;			/* what it is a clone of, or InvalidOid */
	Oid			relation;
	Oid			function;
	int16		type;			/* TRIGGER_TYPE_* */
	char		enabled;
	char	   *name;
	int			argument_count; /* 1 if it was made by us */
	char	   *argument;		/* the rule's JSON */
	char	   *condition;		/* WHEN as a stored node tree, or NULL */
	bool		is_new;			/* made or changed by this transaction */
	const char *fault;			/* not made by outbox.capture(), a sentence */
	ObxRule    *rule;			/* NULL if it has a fault */
} ObxRuleTrigger;

/*
 * The rules' triggers on a table, also those inherited from one above.  Leaves
 * out triggers with a fault, which fail when they fire.
 */
extern List *obx_rule_list(Oid relid);

/* A copy of a trigger's row in pg_trigger, which is "catalog"; NULL if there is none. */
extern HeapTuple obx_rule_trigger_row(Relation catalog, Oid trigger);

/* A trigger that calls one of our functions, or NULL. */
extern ObxRuleTrigger *obx_rule_find_trigger(Oid trigger);

/* All triggers that call our functions, also those with a fault. */
extern List *obx_rule_list_triggers(void);

/* The tables that have rules of their own, by oid. */
extern List *obx_rule_list_tables(void);

/*
 * Makes one trigger on a table, as a clone of "parent" if that is given.  No
 * right is checked.
 */
extern ObjectAddress obx_rule_create_trigger(Oid relid, const ObxRuleTrigger *trigger,
											 Node *when);

/* The argument of a rule's trigger: the rule's JSON. */
extern char *obx_rule_argument(HeapTuple trigger, TupleDesc tupdesc);

/* The trigger function of rules, for rows or for statements. */
extern Oid	obx_rule_function(bool row);

/* Is that a trigger function of rules? */
extern bool obx_rule_is_function(Oid function);

#endif							/* OBX_RULE_TRIGGER_H */
