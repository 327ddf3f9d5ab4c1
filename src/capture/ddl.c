/*
 * What DDL means for rules: the functions of two event triggers, which every
 * session runs, whether it has loaded the library or not.
 *
 * After a command that makes or changes tables, rules follow: a renamed
 * column is written into them, tables that joined or left a captured one get
 * or lose its rules, columns that differ get a new version.  What rules cannot follow is refused here, when the
 * command runs, so that no later INSERT of a user fails for it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
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
#include "capture/rule.h"
#include "capture/snapshot.h"
#include "capture/version.h"
#include "catalog/names.h"

PG_FUNCTION_INFO_V1(obx_sql_capture_follow_ddl);
PG_FUNCTION_INFO_V1(obx_sql_capture_follow_drop);

/* Runs a query that returns one oid column; the list is the caller's. */
static List *
list_oids(const char *query)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *oids = NIL;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	if (SPI_execute(query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list the objects of a command");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		oid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		if (!isnull)
			oids = lappend_oid(oids, DatumGetObjectId(oid));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return oids;
}

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

/* What the table's own rules name must be there, and its name fit for types. */
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
 * Who owns a captured partitioned table has EXECUTE on the functions, to make
 * partitions.  It is not for making rules past outbox.capture().
 */
static void
check_maker(Oid function)
{
	Oid			types[] = {REGCLASSOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID, TEXTOID, TEXTOID, BOOLOID};
	Oid			capture = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
										  CStringGetDatum("capture"),
										  PointerGetDatum(buildoidvector(types, lengthof(types))),
										  ObjectIdGetDatum(obx_schema_require()));

	if (!obx_rule_is_function(function) ||
		(OidIsValid(capture) &&
		 obx_object_aclcheck(ProcedureRelationId, capture, GetUserId(), ACL_EXECUTE) == ACLCHECK_OK))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("permission denied to make a capture rule"),
			 errdetail("A trigger that calls outbox.%s() is part of a rule.", get_func_name(function)),
			 errhint("Have EXECUTE on outbox.capture() granted, and make rules with it.")));
}

/* ---- following ---- */

static void
follow_table(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		return;
	if (rel->rd_rel->relkind == RELKIND_RELATION ||
		rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE ||
		rel->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
	{
		obx_rule_leave(relid);
		obx_rule_spread(relid);
		check_rules(rel);
		obx_rule_permit_partitions(rel);
	}
	relation_close(rel, NoLock);
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

/* The tables that the command made or changed, also by changing their type. */
static List *
list_changed_tables(EventTriggerData * event)
{
	if (event->tag == CMDTAG_ALTER_TYPE)
		return list_oids("SELECT DISTINCT c.oid FROM pg_catalog.pg_event_trigger_ddl_commands() d"
						 " JOIN pg_catalog.pg_class t ON t.oid OPERATOR(pg_catalog.=) d.objid"
						 " JOIN pg_catalog.pg_class c ON c.reloftype OPERATOR(pg_catalog.=) t.reltype"
						 " WHERE d.classid OPERATOR(pg_catalog.=) 1259");
	return list_oids("SELECT DISTINCT objid FROM pg_catalog.pg_event_trigger_ddl_commands()"
					 " WHERE classid OPERATOR(pg_catalog.=) 1259");
}

/* The tables of a schema that got another name. */
static void
follow_schema(Node *command)
{
	ListCell   *lc;

	foreach(lc, list_oids("SELECT c.oid FROM pg_catalog.pg_event_trigger_ddl_commands() d"
						  " JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) d.objid"
						  " WHERE d.classid OPERATOR(pg_catalog.=) 2615 AND c.relhastriggers"))
		obx_version_follow(lfirst_oid(lc), command);
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
 * outbox.capture_follow_ddl(): when a command ends that made or changed a
 * table or a trigger.
 */
Datum
obx_sql_capture_follow_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = require_event(fcinfo);
	List	   *relations = list_changed_tables(event);
	ListCell   *lc;

	follow_rename(event->parsetree, relations);
	foreach(lc, relations)
	{
		follow_table(lfirst_oid(lc));
		obx_version_follow(lfirst_oid(lc), event->parsetree);
	}
	if (event->tag == CMDTAG_ALTER_SCHEMA)
		follow_schema(event->parsetree);

	if (!IsA(event->parsetree, CreateTrigStmt))
		PG_RETURN_NULL();
	foreach(lc, list_oids("SELECT t.tgfoid FROM pg_catalog.pg_event_trigger_ddl_commands() c"
						  " JOIN pg_catalog.pg_trigger t ON t.oid OPERATOR(pg_catalog.=) c.objid"
						  " WHERE c.classid OPERATOR(pg_catalog.=) 2620"))
		check_maker(lfirst_oid(lc));
	foreach(lc, list_oids("SELECT t.tgrelid FROM pg_catalog.pg_event_trigger_ddl_commands() c"
						  " JOIN pg_catalog.pg_trigger t ON t.oid OPERATOR(pg_catalog.=) c.objid"
						  " WHERE c.classid OPERATOR(pg_catalog.=) 2620"))
		follow_table(lfirst_oid(lc));
	PG_RETURN_NULL();
}

/*
 * outbox.capture_follow_drop(): when a command has dropped tables or columns.
 */
Datum
obx_sql_capture_follow_drop(PG_FUNCTION_ARGS)
{
	ListCell   *lc;

	(void) require_event(fcinfo);
	foreach(lc, list_oids("SELECT DISTINCT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
						  " WHERE classid OPERATOR(pg_catalog.=) 1259"
						  " AND objsubid OPERATOR(pg_catalog.>) 0"))
	{
		Relation	rel = try_relation_open(lfirst_oid(lc), AccessShareLock);

		if (rel == NULL)
			continue;
		check_rules(rel);
		relation_close(rel, NoLock);
		obx_version_follow(lfirst_oid(lc), NULL);
	}
	obx_snapshot_forget(list_oids("SELECT DISTINCT objid FROM pg_catalog.pg_event_trigger_dropped_objects()"
								  " WHERE classid OPERATOR(pg_catalog.=) 1259"
								  " AND objsubid OPERATOR(pg_catalog.=) 0"
								  " AND object_type IN ('table', 'foreign table')"
								  " AND NOT is_temporary"));
	PG_RETURN_NULL();
}
