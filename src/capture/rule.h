/*
 * A capture rule as it was asked for, and the catalog's rules of a table.
 */
#ifndef OBX_RULE_H
#define OBX_RULE_H

#include "nodes/pg_list.h"
#include "utils/rel.h"

/* Operations, as a set. */
#define OBX_CAPTURE_INSERT		0x01
#define OBX_CAPTURE_UPDATE		0x02
#define OBX_CAPTURE_DELETE		0x04
#define OBX_CAPTURE_TRUNCATE	0x08
#define OBX_CAPTURE_ROWS		(OBX_CAPTURE_INSERT | OBX_CAPTURE_UPDATE | OBX_CAPTURE_DELETE)
#define OBX_CAPTURE_ALL			(OBX_CAPTURE_ROWS | OBX_CAPTURE_TRUNCATE)

typedef enum ObxOldValues
{
	OBX_OLD_NONE,
	OBX_OLD_CHANGED,
	OBX_OLD_ALL
} ObxOldValues;

/*
 * What a rule's triggers carry as their argument.  Columns are kept by name,
 * because attribute numbers do not survive a dump.
 */
typedef struct ObxRule
{
	char	   *name;
	char	   *type;			/* NULL: table's name and operation */
	List	   *key;			/* column names; NIL: the primary key */
	List	   *columns;		/* column names; NIL: all */
	List	   *exclude;		/* column names */
	ObxOldValues old_values;
	char	   *condition;		/* as written, for people; NULL for none */
} ObxRule;

extern char *obx_rule_to_json(const ObxRule *rule);

/* ereports if the text is not what obx_rule_to_json() gives */
extern ObxRule *obx_rule_from_json(const char *json);

/* false if there is no such setting */
extern bool obx_old_values_parse(const char *text, ObxOldValues *value);

/* The columns that go into data, in the table's order; *count may be 0. */
extern AttrNumber *obx_rule_columns(const ObxRule *rule, Relation rel, int *count);

/* The columns that form the key, in its order; *count is 0 for no key. */
extern AttrNumber *obx_rule_key(const ObxRule *rule, Relation rel, int *count);

/* The number of a column, or ereports; "role" says what it was named as. */
extern AttrNumber obx_column_require(Relation rel, const char *column, const char *role);

/* ---- in the catalog ---- */

/* A trigger that belongs to a rule. */
typedef struct ObxRuleTrigger
{
	Oid			trigger;
	Oid			parent;			/* what it is a clone of, or InvalidOid */
	ObxRule    *rule;
} ObxRuleTrigger;

/* The rules' triggers on a table, also those inherited from one above. */
extern List *obx_rule_list(Relation rel);

/*
 * Makes the triggers of a rule.  The caller holds SHARE ROW EXCLUSIVE on the
 * table and has checked everything but the condition, which is looked up with
 * the rights of the current user.  "operations" 0 stands for those that the
 * condition allows.
 */
extern void obx_rule_create(Relation rel, const ObxRule *rule, int operations);

/* Drops the rules of that name, or all; returns how many rules there were. */
extern int	obx_rule_drop(Relation rel, const char *name);

#endif							/* OBX_RULE_H */
