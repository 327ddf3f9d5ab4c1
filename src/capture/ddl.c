/*
 * What DDL means for rules: the functions of event triggers, which every
 * session runs, whether it has loaded the library or not.
 *
 * After a command, rules follow: a renamed column is written into them, tables
 * that joined or left a captured one get or lose its rules, columns that differ
 * get a new version.  What was made or changed decides, not the command's tag:
 * many commands can do the same (ALTER INDEX renames tables, ALTER VIEW columns
 * of tables, CREATE SCHEMA makes triggers).  What rules cannot follow is refused
 * here, when the command runs, so that no later INSERT of a user fails for it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "base/table.h"
#include "capture/backfill.h"
#include "capture/define.h"
#include "capture/inherit.h"
#include "capture/notice.h"
#include "capture/rule.h"
#include "capture/rule_trigger.h"
#include "capture/version.h"
#include "catalog/names.h"
#include "catalog/registered_type.h"
#include "catalog/subscription.h"
#include "log/event.h"
#include "log/immutable.h"

PG_FUNCTION_INFO_V1(obx_sql_capture_follow_ddl);
PG_FUNCTION_INFO_V1(obx_sql_capture_follow_drop);
PG_FUNCTION_INFO_V1(obx_sql_capture_permit_partitions);

/* ---- checking ---- */

static void
require_named(Relation rel, const ObxRule *rule, List *names, const char *role)
{
	ListCell   *lc;

	foreach(lc, names)
	{
		const char *column = lfirst(lc);

		if (get_attnum(RelationGetRelid(rel), column) != InvalidAttrNumber)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop column \"%s\" of table \"%s\" because capture rule \"%s\" names it",
						column, RelationGetRelationName(rel), rule->name),
				 errdetail("The rule names it in \"%s\".", role),
				 errhint("Remove the rule with outbox.uncapture() first, and make it anew without the column.")));
	}
}

/*
 * Checks that the columns which the table's own rules name exist, and that its
 * name can be part of a type.
 */
static void
check_rules(Relation rel)
{
	ListCell   *lc;

	foreach(lc, obx_rule_list(RelationGetRelid(rel)))
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		ObxRule    *rule = trigger->rule;

		if (OidIsValid(trigger->parent))
			continue;
		if (rule->type == NULL)
			obx_rule_check_table_name(RelationGetRelationName(rel));
		require_named(rel, rule, rule->key, "key");
		require_named(rel, rule, rule->columns, "columns");
		require_named(rel, rule, rule->exclude, "exclude");
	}
}

/*
 * The owner of a captured partitioned table has EXECUTE on the functions, to
 * make partitions.  Nobody may use it to make rules without outbox.capture().
 */
static void
check_maker(const ObxRuleTrigger *trigger)
{
	Oid			types[] = {REGCLASSOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID, BOOLOID, TEXTOID};
	Oid			capture = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
										  CStringGetDatum("capture"),
										  PointerGetDatum(buildoidvector(types, lengthof(types))),
										  ObjectIdGetDatum(obx_schema_require()));

	if (OidIsValid(capture) &&
		obx_object_aclcheck(ProcedureRelationId, capture, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to make a capture rule"),
			 errdetail("A trigger that calls outbox.%s() is part of a rule.",
					   get_func_name(trigger->function)),
			 errhint("Have EXECUTE on outbox.capture() granted, and make rules with it.")));
}

/* No other trigger of that kind may say that it is the same rule. */
static void
check_only_one(const ObxRuleTrigger *trigger)
{
	ListCell   *lc;

	foreach(lc, obx_rule_list(trigger->relation))
	{
		ObxRuleTrigger *other = lfirst(lc);

		if (OidIsValid(other->parent) || other->trigger == trigger->trigger ||
			strcmp(other->rule->name, trigger->rule->name) != 0 ||
			(other->function != trigger->function &&
			 strcmp(other->argument, trigger->argument) == 0))
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("capture rule \"%s\" for table \"%s\" already exists",
						trigger->rule->name, get_rel_name(trigger->relation)),
				 errdetail("Trigger \"%s\" is part of it.", other->name),
				 errhint("Make and remove rules with outbox.capture() and outbox.uncapture().")));
	}
}

/*
 * A trigger that was made by hand, or by a dump, must be what outbox.capture()
 * could have made, in all that it checks.  Superusers may make one that is
 * called as no rule is; that one fails when it fires.
 */
static void
check_made(const ObxRuleTrigger *trigger)
{
	Relation	rel;
	int			count;

	check_maker(trigger);
	if (trigger->fault != NULL)
	{
		if (trigger->argument_count == 1)
			(void) obx_rule_from_json(trigger->argument);
		if (trigger->argument_count == 1 && superuser())
			return;
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("trigger \"%s\" is not a capture rule", trigger->name),
				 errdetail("%s", trigger->fault),
				 errhint("Make and remove rules with outbox.capture() and outbox.uncapture().")));
	}
	rel = relation_open(trigger->relation, AccessShareLock);
	obx_rule_check_relation(rel);
	if (trigger->rule->type != NULL)
		obx_event_check_type(trigger->rule->type, strlen(trigger->rule->type));
	if (TRIGGER_FOR_ROW(trigger->type))
	{
		(void) obx_rule_columns(trigger->rule, rel, &count);
		(void) obx_rule_key(trigger->rule, rel, &count);
	}
	check_only_one(trigger);
	relation_close(rel, NoLock);
}

/* ---- what a command has made and changed ---- */

/*
 * What a command did, as far as it is told or said.  Commands that run within
 * REFRESH MATERIALIZED VIEW are not told, and commands of their own all the
 * same: so what their text names counts, too.
 */
typedef struct Changes
{
	List	   *relations;		/* tables and the like, by oid */
	List	   *triggers;		/* by oid */
} Changes;

static void
add_told(Changes *changes)
{
	MemoryContext caller = CurrentMemoryContext;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute("SELECT classid, objid FROM pg_catalog.pg_event_trigger_ddl_commands()"
					" WHERE classid OPERATOR(pg_catalog.=) ANY ('{1259,2620}'::pg_catalog.oid[])", false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list the objects of a command");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		Oid			class = DatumGetObjectId(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		Oid			object = DatumGetObjectId(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (class == RelationRelationId)
			changes->relations = list_append_unique_oid(changes->relations, object);
		else
			changes->triggers = list_append_unique_oid(changes->triggers, object);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

/* Neither locks it nor asks for rights: that is the command's business. */
static Oid
find_relation(const char *schema, const char *name)
{
	Oid			namespace;

	if (schema == NULL)
		return RelnameGetRelid(name);
	namespace = get_namespace_oid(schema, true);
	return OidIsValid(namespace) ? get_relname_relid(name, namespace) : InvalidOid;
}

/* The triggers on our functions that a CREATE TRIGGER names and has just made. */
static void
add_named_trigger(Changes *changes, const CreateTrigStmt *statement)
{
	const char *function = strVal(llast(statement->funcname));
	ListCell   *lc;

	if (strcmp(function, "capture_row") != 0 && strcmp(function, "capture_statement") != 0)
		return;
	foreach(lc, obx_rule_list_triggers())
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		char	   *relation = get_rel_name(trigger->relation);

		if (trigger->is_new && strcmp(trigger->name, statement->trigname) == 0 &&
			relation != NULL && strcmp(relation, statement->relation->relname) == 0)
			changes->triggers = list_append_unique_oid(changes->triggers, trigger->trigger);
	}
}

static void
add_named_relation(Changes *changes, const RangeVar * name, const char *new_schema,
				   const char *new_name)
{
	Oid			relid;

	if (name == NULL)
		return;
	relid = find_relation(new_schema != NULL ? new_schema : name->schemaname,
						  new_name != NULL ? new_name : name->relname);
	if (OidIsValid(relid))
		changes->relations = list_append_unique_oid(changes->relations, relid);
}

static void
add_named(Changes *changes, Node *command)
{
	if (IsA(command, CreateTrigStmt))
		add_named_trigger(changes, (CreateTrigStmt *) command);
	else if (IsA(command, CreateSchemaStmt))
	{
		ListCell   *lc;

		foreach(lc, ((CreateSchemaStmt *) command)->schemaElts)
			if (IsA(lfirst(lc), CreateTrigStmt))
			add_named_trigger(changes, lfirst(lc));
	}
	else if (IsA(command, CreateStmt) || IsA(command, CreateForeignTableStmt))
		add_named_relation(changes, ((CreateStmt *) command)->relation, NULL, NULL);
	else if (IsA(command, AlterTableStmt))
		add_named_relation(changes, ((AlterTableStmt *) command)->relation, NULL, NULL);
	else if (IsA(command, AlterObjectSchemaStmt))
		add_named_relation(changes, ((AlterObjectSchemaStmt *) command)->relation,
						   ((AlterObjectSchemaStmt *) command)->newschema, NULL);
	else if (IsA(command, RenameStmt))
	{
		RenameStmt *rename = (RenameStmt *) command;
		bool		renames_part = rename->renameType == OBJECT_COLUMN ||
		rename->renameType == OBJECT_ATTRIBUTE || rename->renameType == OBJECT_TABCONSTRAINT;

		add_named_relation(changes, rename->relation, NULL,
						   renames_part ? NULL : rename->newname);
	}
}

/* The tables that have a changed composite type as theirs. */
static void
add_typed_tables(Changes *changes)
{
	List	   *relations = list_copy(changes->relations);
	ListCell   *lc;

	foreach(lc, relations)
		if (get_rel_relkind(lfirst_oid(lc)) == RELKIND_COMPOSITE_TYPE)
		changes->relations =
			list_concat_unique_oid(changes->relations,
								   obx_table_list_oids(psprintf("SELECT oid FROM pg_catalog.pg_class"
																" WHERE reloftype OPERATOR(pg_catalog.=) %u",
																get_rel_type_id(lfirst_oid(lc)))));
}

static Changes *
find_changes(Node *command)
{
	Changes    *changes = palloc0(sizeof(Changes));
	ListCell   *lc;

	add_told(changes);
	add_named(changes, command);
	add_typed_tables(changes);
	foreach(lc, changes->triggers)
	{
		ObxRuleTrigger *trigger = obx_rule_find_trigger(lfirst_oid(lc));

		if (trigger != NULL)
			changes->relations = list_append_unique_oid(changes->relations, trigger->relation);
	}
	return changes;
}

static bool
is_table(Oid relid)
{
	char		relkind = get_rel_relkind(relid);

	return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE ||
		relkind == RELKIND_FOREIGN_TABLE;
}

/* ---- following ---- */

static void
follow_table(Oid relid, Node *command)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		return;
	obx_rule_leave(relid);
	obx_rule_spread(relid);
	obx_rule_follow_enabled(relid, command);
	check_rules(rel);
	obx_rule_permit_partitions(relid);
	relation_close(rel, NoLock);
	obx_notice_key(relid);
	obx_version_follow(relid, command);
}

/* A column's new name; the command has been carried out. */
static void
follow_rename(Node *command, List *relations)
{
	RenameStmt *rename = (RenameStmt *) command;
	ListCell   *lc;

	if (!IsA(command, RenameStmt) ||
		(rename->renameType != OBJECT_COLUMN && rename->renameType != OBJECT_ATTRIBUTE))
		return;
	foreach(lc, relations)
		obx_rule_rename_column(lfirst_oid(lc), rename->subname, rename->newname);
}

/*
 * Does the command give other names to tables, or to the types of their columns,
 * that it does not list?
 */
static bool
renames_unlisted(Node *command)
{
	ObjectType	kind;

	if (IsA(command, RenameStmt))
		kind = ((RenameStmt *) command)->renameType;
	else if (IsA(command, AlterObjectSchemaStmt))
		kind = ((AlterObjectSchemaStmt *) command)->objectType;
	else
		return false;
	return kind == OBJECT_SCHEMA || kind == OBJECT_EXTENSION || kind == OBJECT_TYPE ||
		kind == OBJECT_DOMAIN;
}

static EventTriggerData *
require_event(FunctionCallInfo fcinfo)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("capture function was not called as the event trigger it is meant for"),
				 errdetail("It is called when a command has changed a table."),
				 errhint("Do not call it.")));
	return (EventTriggerData *) fcinfo->context;
}

/*
 * outbox.capture_follow_ddl(): when a command ends, whatever it was.
 */
Datum
obx_sql_capture_follow_ddl(PG_FUNCTION_ARGS)
{
	Node	   *command = require_event(fcinfo)->parsetree;
	Changes    *changes = find_changes(command);
	ListCell   *lc;

	foreach(lc, changes->triggers)
	{
		ObxRuleTrigger *trigger = obx_rule_find_trigger(lfirst_oid(lc));

		if (trigger != NULL && !OidIsValid(trigger->parent))
			check_made(trigger);
	}
	follow_rename(command, changes->relations);
	foreach(lc, changes->relations)
		if (is_table(lfirst_oid(lc)))
	{
		obx_immutable_follow(lfirst_oid(lc), command);
		follow_table(lfirst_oid(lc), command);
		obx_notice_names(lfirst_oid(lc), command);
	}
	if (IsA(command, AlterOwnerStmt))
	{
		obx_registered_type_follow_owners();
		if (obx_subscription_follow_owners(true))
			obx_doorbell_arm_configuration();
	}
	if (renames_unlisted(command))
		foreach(lc, obx_rule_list_tables())
	{
		obx_version_follow(lfirst_oid(lc), command);
		obx_notice_names(lfirst_oid(lc), command);
	}
	PG_RETURN_NULL();
}

/* ---- before a command ---- */

/* Without a lock, for the command may be about to ask for a stronger one. */
static void
permit_partitions_of(const RangeVar * name)
{
	Oid			relid = find_relation(name->schemaname, name->relname);

	if (OidIsValid(relid))
		obx_rule_permit_partitions(relid);
}

static void
permit_for(Node *command)
{
	ListCell   *lc;

	if (IsA(command, AlterTableStmt))
		permit_partitions_of(((AlterTableStmt *) command)->relation);
	else if (IsA(command, CreateStmt) || IsA(command, CreateForeignTableStmt))
	{
		CreateStmt *create = (CreateStmt *) command;

		if (create->partbound != NULL)
			foreach(lc, create->inhRelations)
				permit_partitions_of(lfirst(lc));
	}
	else if (IsA(command, CreateSchemaStmt))
		foreach(lc, ((CreateSchemaStmt *) command)->schemaElts)
			permit_for(lfirst(lc));
}

/*
 * outbox.capture_permit_partitions(): before a command that may make or attach
 * a partition.  No event trigger fires for REASSIGN OWNED, after which the new
 * owner lacks the right that PostgreSQL is about to check.
 */
Datum
obx_sql_capture_permit_partitions(PG_FUNCTION_ARGS)
{
	permit_for(require_event(fcinfo)->parsetree);
	PG_RETURN_NULL();
}

/* ---- after a drop ---- */

/* What stood for a subscription was dropped, by DROP OWNED or DROP TYPE. */
static void
follow_owners_drop(void)
{
	List	   *types;
	ListCell   *lc;

	types = obx_table_list_strings("SELECT object_name FROM pg_catalog.pg_event_trigger_dropped_objects()"
								   " WHERE classid OPERATOR(pg_catalog.=) 1247"
								   " AND schema_name OPERATOR(pg_catalog.=) 'outbox'");
	foreach(lc, types)
		if (!obx_registered_type_follow_drop(lfirst(lc)) &&
			obx_subscription_follow_drop(lfirst(lc)))
		obx_doorbell_arm_configuration();
}

/*
 * outbox.capture_follow_drop(): when a command has dropped tables, columns or
 * indexes.
 */
Datum
obx_sql_capture_follow_drop(PG_FUNCTION_ARGS)
{
	ListCell   *lc;

	(void) require_event(fcinfo);
	follow_owners_drop();
	foreach(lc, obx_table_list_oids("SELECT DISTINCT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
									" WHERE classid OPERATOR(pg_catalog.=) 1259"
									" AND objsubid OPERATOR(pg_catalog.>) 0"))
	{
		Relation	rel = try_relation_open(lfirst_oid(lc), AccessShareLock);

		if (rel == NULL)
			continue;
		check_rules(rel);
		relation_close(rel, NoLock);
		obx_notice_key(lfirst_oid(lc));
		obx_version_follow(lfirst_oid(lc), NULL);
	}

	/* an index that goes by itself, or with what it was made of, may be a key */
	if (obx_table_list_oids("SELECT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
							" WHERE (original OR normal) AND NOT is_temporary"
							" AND object_type OPERATOR(pg_catalog.=) ANY ('{index,table constraint}'::pg_catalog.text[]) LIMIT 1") != NIL)
		foreach(lc, obx_rule_list_tables())
			obx_notice_key(lfirst_oid(lc));

	obx_backfill_forget(obx_table_list_oids("SELECT DISTINCT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
											" WHERE classid OPERATOR(pg_catalog.=) 1259"
											" AND objsubid OPERATOR(pg_catalog.=) 0"
											" AND object_type OPERATOR(pg_catalog.=) ANY ('{table,foreign table}'::pg_catalog.text[])"
											" AND NOT is_temporary"));
	PG_RETURN_NULL();
}
