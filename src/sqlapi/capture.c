/*
 * outbox.capture() and outbox.uncapture(): arguments and rights.
 *
 * Everything that a caller can get wrong is told here, with what to do about
 * it; the rest is one call into the capture room.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "capture/backfill.h"
#include "capture/define.h"
#include "capture/redefine.h"
#include "capture/rule.h"
#include "capture/rule_trigger.h"
#include "log/event.h"
#include "sqlapi/argument.h"

PG_FUNCTION_INFO_V1(obx_sql_capture);
PG_FUNCTION_INFO_V1(obx_sql_uncapture);
PG_FUNCTION_INFO_V1(obx_sql_snapshot);

/* Bytes; as long as a type may be, which is its default. */
#define NAME_MAX_LENGTH OBX_TYPE_MAX_LENGTH

/* Arguments of outbox.capture(), in their order. */
enum
{
	ARG_RELATION,
	ARG_OPERATIONS,
	ARG_TYPE,
	ARG_CONDITION,
	ARG_KEY,
	ARG_COLUMNS,
	ARG_EXCLUDE,
	ARG_OLD_VALUES,
	ARG_NAME,
	ARG_REPLICATED,
	ARG_IF_EXISTS
};

/* ---- the table ---- */

static void
check_owner(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid),
				 errdetail("It may have been dropped meanwhile."),
				 errhint("Name an existing table.")));
	if (!obx_class_ownercheck(relid, GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table \"%s\"", name),
				 errdetail("Only a table's owner decides what is captured of it."),
				 errhint("Let the owner, or a member of the owning role, make and remove rules.")));
}

/*
 * The table, locked.  Its owner is checked before, for nobody may lock a table
 * that is not his, and again after, for it may have changed meanwhile.
 */
static Relation
open_owned(FunctionCallInfo fcinfo, LOCKMODE lockmode)
{
	Oid			relid;

	obx_argument_require(fcinfo, ARG_RELATION, "relation");
	relid = PG_GETARG_OID(ARG_RELATION);
	check_owner(relid);
	LockRelationOid(relid, lockmode);
	check_owner(relid);
	return relation_open(relid, NoLock);
}

/* ---- arguments ---- */

/* The strings of a text[]; NIL for a NULL argument, else at least one, but for a key. */
static List *
get_strings(FunctionCallInfo fcinfo, int argument, const char *name, const char *default_hint)
{
	ArrayType  *array;
	Datum	   *items;
	bool	   *nulls;
	int			count;
	List	   *strings = NIL;

	if (PG_ARGISNULL(argument))
		return NIL;
	array = PG_GETARG_ARRAYTYPE_P(argument);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("\"%s\" must be an array of one dimension", name),
				 errdetail("It has %d dimensions.", ARR_NDIM(array)),
				 errhint("Write it as '{first,second}'.")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &count);
	if (count == 0 && argument != ARG_KEY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" must not be empty", name),
				 errdetail("An empty array names nothing."),
				 errhint("%s", default_hint)));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("\"%s\" must not contain NULL", name),
					 errdetail("Element %d is NULL.", i + 1),
					 errhint("%s", default_hint)));
		strings = lappend(strings, TextDatumGetCString(items[i]));
	}
	return strings;
}

static int
get_operations(FunctionCallInfo fcinfo)
{
	static const char *const names[] = {"insert", "update", "delete", "truncate"};
	int			operations = 0;
	ListCell   *lc;

	foreach(lc, get_strings(fcinfo, ARG_OPERATIONS, "operations",
							"Leave it out for all operations."))
	{
		const char *name = lfirst(lc);
		int			operation = 0;

		for (int i = 0; i < lengthof(names); i++)
			if (strcmp(name, names[i]) == 0)
				operation = OBX_CAPTURE_INSERT << i;
		if (operation == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("unknown operation \"%s\"", name),
					 errdetail("Operations are insert, update, delete and truncate."),
					 errhint("Write them in lower case, such as '{insert,update}'.")));
		if (operations & operation)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("operation \"%s\" is named more than once", name),
					 errdetail("A rule captures an operation once."),
					 errhint("Name each operation once, or make another rule with another name.")));
		operations |= operation;
	}
	return operations;
}

/* Column names, each of the table and named once. */
static List *
get_columns(FunctionCallInfo fcinfo, int argument, const char *role,
			const char *default_hint, Relation rel)
{
	List	   *columns = get_strings(fcinfo, argument, role, default_hint);
	Bitmapset  *seen = NULL;
	ListCell   *lc;

	foreach(lc, columns)
	{
		AttrNumber	attnum = obx_rule_require_column(rel, lfirst(lc), role);

		if (bms_is_member(attnum, seen))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_COLUMN),
					 errmsg("column \"%s\" is named more than once",
							(char *) lfirst(lc)),
					 errdetail("It stands twice in \"%s\".", role),
					 errhint("Name each column once.")));
		seen = bms_add_member(seen, attnum);
	}
	return columns;
}

static char *
get_type(FunctionCallInfo fcinfo, Relation rel)
{
	char	   *type = obx_argument_text(fcinfo, ARG_TYPE);

	if (type != NULL)
		obx_event_check_type(type, strlen(type));
	else
		obx_rule_check_table_name(RelationGetRelationName(rel));
	return type;
}

static ObxOldValues
get_old_values(FunctionCallInfo fcinfo, int operations)
{
	char	   *name = obx_argument_require_text(fcinfo, ARG_OLD_VALUES, "old_values");
	ObxOldValues old_values;

	if (!obx_rule_parse_old_values(name, &old_values))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown old_values \"%s\"", name),
				 errdetail("It is one of none, changed and all."),
				 errhint("Leave it out for 'changed'.")));
	if (old_values == OBX_OLD_ALL && operations != 0 && !(operations & OBX_CAPTURE_UPDATE))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("old_values \"all\" needs the operation \"update\""),
				 errdetail("Only an update has old values beside its data."),
				 errhint("Add \"update\" to the operations, or leave old_values out.")));
	return old_values;
}

/* By default the type, else the table's name. */
static char *
get_name(FunctionCallInfo fcinfo, const char *type, Relation rel)
{
	char	   *name = obx_argument_text(fcinfo, ARG_NAME);

	if (name == NULL)
		name = pstrdup(type != NULL ? type : RelationGetRelationName(rel));
	if (name[0] == '\0' || strlen(name) > NAME_MAX_LENGTH)
		ereport(ERROR,
				(errcode(name[0] == '\0' ? ERRCODE_INVALID_PARAMETER_VALUE :
						 ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
				 errmsg("rule name must have 1 to %d bytes", NAME_MAX_LENGTH),
				 errdetail("It has %d bytes.", (int) strlen(name)),
				 errhint("Leave the name out to have the rule named after its type or table.")));
	return name;
}

static void
check_columns(ObxRule *rule, Relation rel)
{
	int			count;

	if (rule->columns != NIL && rule->exclude != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("columns and exclude cannot be used together"),
				 errdetail("The one names the columns to capture, the other those to leave out.")));
	(void) obx_rule_columns(rule, rel, &count);
	if (count == 0 && rule->exclude != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("exclude leaves no column to capture"),
				 errdetail("It names every column of table \"%s\".",
						   RelationGetRelationName(rel)),
				 errhint("Exclude fewer columns.")));
}

/* Without a key the events of a table have no order: only if that was asked for. */
static void
check_key(ObxRule *rule, Relation rel)
{
	int			count;

	(void) obx_rule_key(rule, rel, &count);
	if (count > 0 || rule->no_key ||
		(rule->operations != 0 && !(rule->operations & OBX_CAPTURE_ROWS)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" has no key to order its events by",
					RelationGetRelationName(rel)),
			 errdetail("It has neither a primary key nor an index as its replica identity, and no key is named."),
			 errhint("Name the columns that tell its rows apart: key => '{column,...}'; or key => '{}' for events without a key, which have no order among each other.")));
}

/* Everything that is asked for, but the condition. */
static void
fill_rule(FunctionCallInfo fcinfo, Relation rel, ObxRule *rule)
{
	memset(rule, 0, sizeof(ObxRule));
	obx_rule_check_relation(rel);
	rule->operations = get_operations(fcinfo);
	rule->type = get_type(fcinfo, rel);
	rule->condition = obx_argument_expression(fcinfo, ARG_CONDITION, "condition");
	rule->key = get_columns(fcinfo, ARG_KEY, "key",
							"Leave it out for the primary key.", rel);
	rule->no_key = rule->key == NIL && !PG_ARGISNULL(ARG_KEY);
	rule->columns = get_columns(fcinfo, ARG_COLUMNS, "columns",
								"Leave it out for all columns.", rel);
	rule->exclude = get_columns(fcinfo, ARG_EXCLUDE, "exclude",
								"Leave it out to exclude none.", rel);
	rule->old_values = get_old_values(fcinfo, rule->operations);
	obx_argument_require(fcinfo, ARG_REPLICATED, "replicated");
	rule->replicated = PG_GETARG_BOOL(ARG_REPLICATED);
	check_columns(rule, rel);
	check_key(rule, rel);
	rule->name = get_name(fcinfo, rule->type, rel);
}

/* ---- a rule that is there already ---- */

typedef enum IfExists
{
	IF_EXISTS_ERROR,
	IF_EXISTS_KEEP,
	IF_EXISTS_REPLACE
} IfExists;

/* The lock that the change needs, NoLock if there is none; "changes" lists the differences. */
static LOCKMODE
find_needed_lock(Relation rel, const ObxRule *rule, IfExists reaction, char **changes)
{
	*changes = NULL;
	if (!obx_redefine_is_there(rel, rule->name))
		return ShareRowExclusiveLock;
	if (reaction == IF_EXISTS_ERROR)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("capture rule \"%s\" for table \"%s\" already exists",
						rule->name, RelationGetRelationName(rel)),
				 errdetail("A rule is named after its type, or else its table, unless it is given a name."),
				 errhint("Give the rule another name, remove the other one with outbox.uncapture(), or say with if_exists whether to 'keep' or to 'replace' it.")));
	if (reaction == IF_EXISTS_REPLACE)
		*changes = obx_redefine_describe(rel, rule);
	return *changes != NULL ? AccessExclusiveLock : NoLock;
}

/*
 * The table under the lock that is needed, and the rule that is asked for.  A
 * migration that runs again and finds everything in place delays nobody.  A
 * stronger lock is taken after the weaker one was given back, since a lock
 * that is upgraded meets those that want to upgrade theirs.
 */
static Relation
open_for_rule(FunctionCallInfo fcinfo, IfExists reaction, ObxRule *rule, LOCKMODE *needed,
			  char **changes)
{
	LOCKMODE	lockmode = reaction == IF_EXISTS_ERROR ? ShareRowExclusiveLock : AccessShareLock;

	for (;;)
	{
		Relation	rel = open_owned(fcinfo, lockmode);

		fill_rule(fcinfo, rel, rule);
		*needed = find_needed_lock(rel, rule, reaction, changes);
		if (*needed <= lockmode)
			return rel;
		relation_close(rel, lockmode);
		lockmode = *needed;
	}
}

/* ---- the functions ---- */

/*
 * outbox.capture(): makes a rule and returns its name.
 */
Datum
obx_sql_capture(PG_FUNCTION_ARGS)
{
	static const char *const reactions[] = {"error", "keep", "replace"};
	IfExists	reaction;
	Relation	rel;
	ObxRule		rule;
	LOCKMODE	needed;
	char	   *changes;

	PreventCommandIfReadOnly("outbox.capture()");
	reaction = obx_argument_require_word(fcinfo, ARG_IF_EXISTS, "if_exists", reactions,
										 lengthof(reactions));
	rel = open_for_rule(fcinfo, reaction, &rule, &needed, &changes);
	if (needed == NoLock)
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("capture rule \"%s\" for table \"%s\" already exists, %s", rule.name,
						RelationGetRelationName(rel), reaction == IF_EXISTS_KEEP ? "keeping it" :
						"and nothing differs")));
	else
	{
		if (changes != NULL)
			(void) obx_rule_drop(rel, rule.name);
		obx_rule_create(rel, &rule);
	}
	if (changes != NULL)
		ereport(NOTICE,
				(errmsg("replaced capture rule \"%s\" for table \"%s\", which already exists",
						rule.name, RelationGetRelationName(rel)),
				 errdetail("%s", changes)));
	table_close(rel, NoLock);
	PG_RETURN_TEXT_P(cstring_to_text(rule.name));
}

static void
report_unknown_rule(Relation rel, const char *name)
{
	ListCell   *lc;

	foreach(lc, obx_rule_list(RelationGetRelid(rel)))
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (strcmp(trigger->rule->name, name) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_OBJECT),
					 errmsg("capture rule \"%s\" does not belong to table \"%s\"",
							name, RelationGetRelationName(rel)),
					 errdetail("The table inherits it as a partition."),
					 errhint("Remove it from the table that it was made for; the view outbox.capture_rule names it.")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("capture rule \"%s\" for table \"%s\" does not exist",
					name, RelationGetRelationName(rel)),
			 errdetail("No rule of that name was made for the table."),
			 errhint("The view outbox.capture_rule lists the rules.")));
}

/*
 * outbox.uncapture(): removes one rule, or all of a table; returns how many.
 */
Datum
obx_sql_uncapture(PG_FUNCTION_ARGS)
{
	char	   *name = obx_argument_text(fcinfo, 1);
	Relation	rel;
	int			count;

	PreventCommandIfReadOnly("outbox.uncapture()");
	rel = open_owned(fcinfo, AccessExclusiveLock);
	count = obx_rule_drop(rel, name);
	if (count == 0 && name != NULL)
		report_unknown_rule(rel, name);
	relation_close(rel, NoLock);
	PG_RETURN_INT32(count);
}

/*
 * outbox.snapshot(): the next rows of a captured table as events.
 */
Datum
obx_sql_snapshot(PG_FUNCTION_ARGS)
{
	Relation	rel;
	int64		batch_size;
	int64		count;

	PreventCommandIfReadOnly("outbox.snapshot()");
	batch_size = obx_argument_require_number(fcinfo, 1, "batch_size", false, 1, 10000000);
	rel = open_owned(fcinfo, RowShareLock);
	obx_rule_check_relation(rel);
	count = obx_backfill_batch(rel, batch_size);
	relation_close(rel, NoLock);
	PG_RETURN_INT64(count);
}
