/*
 * A capture rule as it was asked for, and the catalog's rules of a table.
 */
#ifndef OBX_RULE_H
#define OBX_RULE_H

#include "catalog/objectaddress.h"
#include "nodes/nodes.h"
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
	int			operations;		/* OBX_CAPTURE_* */
	List	   *key;			/* column names; NIL: the table's own key */
	bool		no_key;			/* not even that */
	List	   *default_key;	/* the table's own key when last looked at */
	bool		has_default_key;	/* false: never looked at */
	List	   *columns;		/* column names; NIL: all */
	List	   *exclude;		/* column names */
	ObxOldValues old_values;
	char	   *condition;		/* as written, for people; NULL for none */
	int			schema_version; /* of the table's columns, from 1 on */
	bool		replicated;		/* its triggers were made ENABLE ALWAYS */
} ObxRule;

extern char *obx_rule_to_json(const ObxRule *rule);

/*
 * NULL if the text is not what obx_rule_to_json() gives, and then, if wanted,
 * the member that is wrong.  Never raises an error, whatever the text is.
 */
extern ObxRule *obx_rule_parse(const char *json, const char **damaged);

/* ereports instead */
extern ObxRule *obx_rule_from_json(const char *json);

/* false if there is no such setting */
extern bool obx_old_values_parse(const char *text, ObxOldValues *value);

/* The columns that go into data, in the table's order; *count may be 0. */
extern AttrNumber *obx_rule_columns(const ObxRule *rule, Relation rel, int *count);

/* The columns that form the key, in its order; *count is 0 for no key. */
extern AttrNumber *obx_rule_key(const ObxRule *rule, Relation rel, int *count);

/*
 * The index that tells rows apart by default: the primary key, or else the one
 * that was chosen as replica identity; InvalidOid if there is neither.
 */
extern Oid	obx_rule_default_index(Relation rel);

/* ereports unless a table of that name can lend it to its events' types */
extern void obx_rule_check_table_name(const char *name);

/* The names of what is the key by default at present; NIL for none. */
extern List *obx_rule_default_key(const ObxRule *rule, Relation rel);

/* The number of a column, or ereports; "role" says what it was named as. */
extern AttrNumber obx_column_require(Relation rel, const char *column, const char *role);

/* ---- in the catalog ---- */

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

/* A trigger that calls one of our functions, or NULL. */
extern ObxRuleTrigger *obx_rule_find_trigger(Oid trigger);

/* All triggers that call our functions, also those with a fault. */
extern List *obx_rule_list_triggers(void);

/* The tables that have rules of their own, by oid. */
extern List *obx_rule_list_tables(void);

/* ereports unless changes of that relation can be captured */
extern void obx_rule_check_relation(Relation rel);

/*
 * Makes the triggers of a rule, on tables below it too.  The caller holds
 * SHARE ROW EXCLUSIVE on the table and has checked everything but the
 * condition, which is looked up with the rights of the current user.
 * rule->operations 0 stands for those that the condition allows.
 * "replicated": also for changes that replication applies.
 */
extern void obx_rule_create(Relation rel, ObxRule *rule, bool replicated);

/* Drops the rules of that name, or all; returns how many rules there were. */
extern int	obx_rule_drop(Relation rel, const char *name);

/*
 * Makes one trigger on a table, as a clone of "parent" if that is given.  No
 * right is checked.
 */
extern ObjectAddress obx_rule_create_trigger(Oid relid, const ObxRuleTrigger *trigger,
											 Node *when);

/* The argument of a rule's trigger: the rule's JSON. */
extern char *obx_rule_argument(HeapTuple trigger, TupleDesc tupdesc);

/* Is that a trigger function of rules? */
extern bool obx_rule_is_function(Oid function);

/* ---- along the inheritance ---- */

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

#endif							/* OBX_RULE_H */
