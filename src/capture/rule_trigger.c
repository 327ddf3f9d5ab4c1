/*
 * Triggers of rules, as pg_trigger has them: found, listed, and made one by one.
 *
 * Must not know which triggers a rule has, nor events.
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
#include "utils/partcache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/table.h"
#include "base/identity.h"
#include "capture/rule_trigger.h"
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

Oid
obx_rule_function(bool row)
{
	return require_function(row ? ROW_FUNCTION : STATEMENT_FUNCTION);
}

/* ---- listing ---- */

bool
obx_rule_is_function(Oid function)
{
	return function == obx_rule_function(true) ||
		function == obx_rule_function(false);
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
	bool		row = form->tgfoid == obx_rule_function(true);

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
	Oid			row_function = obx_rule_function(true);
	Oid			statement_function = obx_rule_function(false);
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
		ObxRuleTrigger *trigger;

		if (form->tgfoid != row_function && form->tgfoid != statement_function)
			continue;
		trigger = read_trigger(tuple, RelationGetDescr(catalog));
		if (trigger->fault == NULL)
			triggers = lappend(triggers, trigger);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
}

HeapTuple
obx_rule_trigger_row(Relation catalog, Oid trigger)
{
	return obx_table_find_row(catalog, TriggerOidIndexId, Anum_pg_trigger_oid, trigger);
}

ObxRuleTrigger *
obx_rule_find_trigger(Oid oid)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	HeapTuple	tuple = obx_rule_trigger_row(catalog, oid);
	ObxRuleTrigger *trigger = NULL;

	if (tuple != NULL &&
		obx_rule_is_function(((Form_pg_trigger) GETSTRUCT(tuple))->tgfoid))
		trigger = read_trigger(tuple, RelationGetDescr(catalog));
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
	return list_triggers_of(list_triggers_of(NIL, obx_rule_function(true)),
							obx_rule_function(false));
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

/* ---- making ---- */

/*
 * Opens the partitioned tables from there down, with their partition keys.
 * The first use of a key evaluates the constants in its expressions, which are
 * code of the table's owner: so it happens here, as the owner of each table.
 * As long as a table is open, its key stays.  Locks are those that CREATE
 * TRIGGER takes.
 */
static List *
open_partitioned(Oid relid)
{
	List	   *opened = NIL;
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return NIL;
	foreach(lc, find_all_inheritors(relid, ShareRowExclusiveLock, NULL))
	{
		Relation	rel;
		ObxIdentity former;

		if (get_rel_relkind(lfirst_oid(lc)) != RELKIND_PARTITIONED_TABLE)
			continue;
		rel = table_open(lfirst_oid(lc), NoLock);
		obx_identity_assume(&former, rel->rd_rel->relowner);
		(void) RelationGetPartitionKey(rel);
		obx_identity_restore(&former);
		opened = lappend(opened, rel);
	}
	return opened;
}

/*
 * Makes one trigger.  PostgreSQL asks for EXECUTE on the trigger's function,
 * which no user has: the trigger is made by the one superuser that always
 * exists.  No code of users runs meanwhile.  An error restores the user with
 * its transaction.
 *
 * A clone is made without a look at the tables below, so also by the sequencer,
 * which must not wait for code of users.
 */
ObjectAddress
obx_rule_create_trigger(Oid relid, const ObxRuleTrigger *trigger, Node *when)
{
	CreateTrigStmt *statement = makeNode(CreateTrigStmt);
	ObjectAddress address;
	ObxIdentity former;
	List	   *partitioned = OidIsValid(trigger->parent) ? NIL : open_partitioned(relid);
	ListCell   *lc;

	statement->trigname = trigger->name;
	statement->funcname = list_make2(makeString(pstrdup(OBX_SCHEMA_NAME)),
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
	foreach(lc, partitioned)
		table_close(lfirst(lc), NoLock);
	CommandCounterIncrement();
	return address;
}
