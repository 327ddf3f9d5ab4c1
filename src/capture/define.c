/*
 * Rules in the catalog: the triggers of a rule are made, listed and dropped.
 *
 * A rule is one trigger for rows and, if it captures TRUNCATE, one for the
 * statement; both carry the same argument.  They are ordinary triggers, so
 * dumps, partitions, DROP TABLE and ALTER TABLE treat them as such.
 *
 * Locks: SHARE ROW EXCLUSIVE on the table while a rule is made, ACCESS
 * EXCLUSIVE while one is dropped, both as CREATE and DROP TRIGGER take them.
 * Must not know events.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/identity.h"
#include "capture/condition.h"
#include "capture/rule.h"
#include "capture/version.h"
#include "catalog/names.h"

#define ROW_FUNCTION		"capture_row"
#define STATEMENT_FUNCTION	"capture_statement"

/* By catalog, not by search path: callers need no right on our schema. */
static Oid
require_function(const char *name)
{
	Oid			function = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
										   CStringGetDatum(name),
										   PointerGetDatum(buildoidvector(NULL, 0)),
										   ObjectIdGetDatum(obx_schema_require()));

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function outbox.%s() does not exist", name),
				 errhint("Run ALTER EXTENSION pg_outbox UPDATE.")));
	return function;
}

/* ---- listing ---- */

bool
obx_rule_is_function(Oid function)
{
	return function == require_function(ROW_FUNCTION) ||
		function == require_function(STATEMENT_FUNCTION);
}

/* The trigger's first argument; it has one if the rule was made by us. */
char *
obx_rule_argument(HeapTuple tuple, TupleDesc tupdesc)
{
	bool		isnull;
	Datum		arguments = heap_getattr(tuple, Anum_pg_trigger_tgargs, tupdesc, &isnull);
	bytea	   *bytes;

	if (isnull)
		return pstrdup("");
	/* strings that end with a zero byte, one after the other */
	bytes = DatumGetByteaPP(arguments);
	return pnstrdup(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

static bool
is_column_null(HeapTuple tuple, TupleDesc tupdesc, int column)
{
	bool		isnull;

	(void) heap_getattr(tuple, column, tupdesc, &isnull);
	return isnull;
}

/*
 * What tells the trigger from one that outbox.capture() makes, or NULL.  Others
 * would miss changes, or emit them at another time or under another name.
 */
static const char *
find_fault(HeapTuple tuple, TupleDesc tupdesc)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	bool		row = form->tgfoid == require_function(ROW_FUNCTION);

	if (form->tgnargs != 1)
		return "It does not have exactly one argument.";
	if (obx_rule_parse(obx_rule_argument(tuple, tupdesc), NULL) == NULL)
		return "Its argument is not a capture rule.";
	if (!TRIGGER_FOR_AFTER(form->tgtype) || !TRIGGER_FOR_ROW(form->tgtype) != !row)
		return row ? "It is not AFTER, FOR EACH ROW." : "It is not AFTER, FOR EACH STATEMENT.";
	if (!TRIGGER_FOR_TRUNCATE(form->tgtype) != row ||
		(!row && (form->tgtype & TRIGGER_TYPE_EVENT_MASK) != TRIGGER_TYPE_TRUNCATE))
		return "It is for other operations.";
	if (OidIsValid(form->tgconstraint) || form->tgdeferrable)
		return "It is a constraint trigger.";
	if (form->tgattr.dim1 > 0)
		return "It is for updates of some columns only.";
	if (!is_column_null(tuple, tupdesc, Anum_pg_trigger_tgoldtable) ||
		!is_column_null(tuple, tupdesc, Anum_pg_trigger_tgnewtable))
		return "It has transition tables.";
	return NULL;
}

static ObxRuleTrigger *
read_trigger(HeapTuple tuple, TupleDesc tupdesc)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	ObxRuleTrigger *trigger = palloc(sizeof(ObxRuleTrigger));
	bool		isnull;
	Datum		condition = heap_getattr(tuple, Anum_pg_trigger_tgqual, tupdesc, &isnull);

	trigger->trigger = form->oid;
	trigger->parent = form->tgparentid;
	trigger->relation = form->tgrelid;
	trigger->function = form->tgfoid;
	trigger->type = form->tgtype;
	trigger->enabled = form->tgenabled;
	trigger->name = pstrdup(NameStr(form->tgname));
	trigger->is_new = TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmin(tuple->t_data));
	trigger->fault = find_fault(tuple, tupdesc);
	trigger->argument_count = form->tgnargs;
	trigger->argument = obx_rule_argument(tuple, tupdesc);
	trigger->condition = isnull ? NULL : TextDatumGetCString(condition);
	trigger->rule = trigger->fault == NULL ? obx_rule_from_json(trigger->argument) : NULL;
	return trigger;
}

List *
obx_rule_list(Oid relid)
{
	Oid			row_function = require_function(ROW_FUNCTION);
	Oid			statement_function = require_function(STATEMENT_FUNCTION);
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	List	   *triggers = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

		if ((form->tgfoid == row_function || form->tgfoid == statement_function) &&
			find_fault(tuple, RelationGetDescr(catalog)) == NULL)
			triggers = lappend(triggers, read_trigger(tuple, RelationGetDescr(catalog)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
}

ObxRuleTrigger *
obx_rule_find_trigger(Oid oid)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	ObxRuleTrigger *trigger = NULL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(oid));
	scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple) &&
		obx_rule_is_function(((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid))
		trigger = read_trigger(tuple, RelationGetDescr(catalog));
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return trigger;
}

/* What depends on a trigger function: that is quicker than to read all triggers. */
static List *
list_triggers_of(List *triggers, Oid function)
{
	Relation	catalog = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ProcedureRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(function));
	scan = systable_beginscan(catalog, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend depend = (Form_pg_depend) GETSTRUCT(tuple);
		ObxRuleTrigger *trigger = depend->classid != TriggerRelationId ? NULL :
		obx_rule_find_trigger(depend->objid);

		if (trigger != NULL)
			triggers = lappend(triggers, trigger);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
}

List *
obx_rule_list_triggers(void)
{
	return list_triggers_of(list_triggers_of(NIL, require_function(ROW_FUNCTION)),
							require_function(STATEMENT_FUNCTION));
}

List *
obx_rule_list_tables(void)
{
	List	   *tables = NIL;
	ListCell   *lc;

	foreach(lc, obx_rule_list_triggers())
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (!OidIsValid(trigger->parent) && trigger->fault == NULL)
			tables = lappend_oid(tables, trigger->relation);
	}
	list_sort(tables, list_oid_cmp);
	list_deduplicate_oid(tables);
	return tables;
}

/* ---- the table ---- */

static void
report_unsupported(Relation rel, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot capture changes of \"%s\"", RelationGetRelationName(rel)),
			 errdetail("\"%s\" is %s.", RelationGetRelationName(rel), what),
			 errhint("%s", hint)));
}

void
obx_rule_check_relation(Relation rel)
{
	const char *hint = "Capture an ordinary or partitioned table.";

	switch (rel->rd_rel->relkind)
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
		case RELKIND_FOREIGN_TABLE:
			break;
		case RELKIND_VIEW:
			report_unsupported(rel, "a view", "Capture the tables beneath it.");
			break;
		case RELKIND_MATVIEW:
			report_unsupported(rel, "a materialized view", "Capture the tables beneath it.");
			break;
		default:
			report_unsupported(rel, "not a table", hint);
	}
	if (IsSystemRelation(rel))
		report_unsupported(rel, "a system catalog", hint);
	if (RelationGetNamespace(rel) == obx_schema_require())
		report_unsupported(rel, "part of the outbox itself", hint);
	if (rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		report_unsupported(rel, "a temporary table",
						   "Capture a permanent table, or publish events yourself.");
}

/* ---- making ---- */

/*
 * A trigger name that is free on the table and its partitions, which get a
 * trigger of the same name.
 */
static char *
choose_trigger_name(Relation rel, const char *rule_name, const char *label)
{
	List	   *relations = find_all_inheritors(RelationGetRelid(rel),
												ShareRowExclusiveLock, NULL);
	char	   *unique = label != NULL ? pstrdup(label) : NULL;

	for (int number = 1;; number++)
	{
		char	   *name = makeObjectName("outbox", rule_name, unique);
		bool		taken = false;
		ListCell   *lc;

		foreach(lc, relations)
			taken |= OidIsValid(get_trigger_oid(lfirst_oid(lc), name, true));
		if (!taken)
			return name;
		unique = psprintf("%s%d", label != NULL ? label : "", number);
	}
}

/*
 * Makes one trigger.  PostgreSQL asks for EXECUTE on the trigger's function,
 * which no user has: the trigger is made by the one superuser that always
 * exists.  No code of users runs meanwhile.  An error restores the user with
 * its transaction.
 */
ObjectAddress
obx_rule_create_trigger(Oid relid, const ObxRuleTrigger *trigger, Node *when)
{
	CreateTrigStmt *statement = makeNode(CreateTrigStmt);
	ObjectAddress address;
	ObxIdentity former;

	statement->trigname = trigger->name;
	statement->funcname = list_make2(makeString(pstrdup("outbox")),
									 makeString(get_func_name(trigger->function)));
	statement->args = list_make1(makeString(trigger->argument));
	statement->row = TRIGGER_FOR_ROW(trigger->type);
	statement->timing = TRIGGER_TYPE_AFTER;
	statement->events = trigger->type & TRIGGER_TYPE_EVENT_MASK;

	obx_identity_assume(&former, BOOTSTRAP_SUPERUSERID);
	address = CreateTriggerFiringOn(statement, NULL, relid, InvalidOid, InvalidOid,
									InvalidOid, trigger->function, trigger->parent, when,
									false, OidIsValid(trigger->parent), trigger->enabled);
	obx_identity_restore(&former);
	CommandCounterIncrement();
	return address;
}

static void
report_unserved(int operations, int allowed)
{
	int			unserved = operations & ~allowed;

	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("condition cannot serve the operation \"%s\"",
					unserved & OBX_CAPTURE_INSERT ? "insert" :
					unserved & OBX_CAPTURE_UPDATE ? "update" :
					unserved & OBX_CAPTURE_DELETE ? "delete" : "truncate"),
			 errdetail("An insert has no old row, a delete no new one, and a truncate neither."),
			 errhint("Leave the operation out, or make a rule of its own for it with another condition.")));
}

/* Row events that the rule's trigger is to fire for. */
static int16
list_row_events(Relation rel, const ObxRule *rule)
{
	int16		events = 0;

	/*
	 * An update that moves a row to another partition fires a DELETE and an
	 * INSERT.  To tell them from others the trigger must see them all.
	 */
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE && rule->condition == NULL)
		return TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;

	if (rule->operations & OBX_CAPTURE_INSERT)
		events |= TRIGGER_TYPE_INSERT;
	if (rule->operations & OBX_CAPTURE_UPDATE)
		events |= TRIGGER_TYPE_UPDATE;
	if (rule->operations & OBX_CAPTURE_DELETE)
		events |= TRIGGER_TYPE_DELETE;
	return events;
}

void
obx_rule_create(Relation rel, ObxRule *rule, bool replicated)
{
	ObxCondition *condition = NULL;
	ObxRuleTrigger trigger = {0};
	int			allowed = OBX_CAPTURE_ALL;

	if (!obx_can_have_truncate_trigger(rel->rd_rel->relkind))
		allowed = OBX_CAPTURE_ROWS;
	if (rule->condition != NULL)
	{
		condition = obx_condition_parse(rel, rule->condition);
		allowed = condition->operations;
	}
	if (rule->operations == 0)
		rule->operations = allowed;
	if (rule->operations & ~allowed)
		report_unserved(rule->operations, allowed);

	rule->schema_version = obx_version_begin(rel);
	rule->default_key = obx_rule_default_key(rule, rel);
	rule->has_default_key = true;
	rule->replicated = replicated;
	trigger.argument = obx_rule_to_json(rule);
	trigger.enabled = replicated ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
	if (rule->operations & OBX_CAPTURE_ROWS)
	{
		ObjectAddress address;

		trigger.name = choose_trigger_name(rel, rule->name, NULL);
		trigger.function = require_function(ROW_FUNCTION);
		trigger.type = TRIGGER_TYPE_ROW | list_row_events(rel, rule);
		address = obx_rule_create_trigger(RelationGetRelid(rel), &trigger,
										  condition != NULL ? condition->expression : NULL);
		/* CREATE TRIGGER does this only for conditions that it parsed itself */
		if (condition != NULL)
			recordDependencyOnExpr(&address, condition->expression,
								   condition->range_table, DEPENDENCY_NORMAL);
	}
	if (rule->operations & OBX_CAPTURE_TRUNCATE)
	{
		trigger.name = choose_trigger_name(rel, rule->name, "truncate");
		trigger.function = require_function(STATEMENT_FUNCTION);
		trigger.type = TRIGGER_TYPE_TRUNCATE;
		obx_rule_create_trigger(RelationGetRelid(rel), &trigger, NULL);
	}
	obx_rule_spread(RelationGetRelid(rel));
	obx_rule_permit_partitions(RelationGetRelid(rel));
}

/* ---- dropping ---- */

int
obx_rule_drop(Relation rel, const char *name)
{
	List	   *names = NIL;
	ObjectAddresses *objects = new_object_addresses();
	ListCell   *lc;

	foreach(lc, obx_rule_list(RelationGetRelid(rel)))
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		ObjectAddress address;

		/* what a partition inherits goes with the rule above it */
		if (OidIsValid(trigger->parent) ||
			(name != NULL && strcmp(trigger->rule->name, name) != 0))
			continue;
		names = list_append_unique(names, makeString(trigger->rule->name));
		ObjectAddressSet(address, TriggerRelationId, trigger->trigger);
		add_exact_object_address(&address, objects);
	}
	performMultipleDeletions(objects, DROP_RESTRICT, 0);
	free_object_addresses(objects);
	return list_length(names);
}
