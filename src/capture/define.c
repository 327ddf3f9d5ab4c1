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
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
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

static ObxRuleTrigger *
read_trigger(HeapTuple tuple, TupleDesc tupdesc)
{
	Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
	ObxRuleTrigger *trigger = palloc(sizeof(ObxRuleTrigger));
	bool		isnull;
	Datum		condition = heap_getattr(tuple, Anum_pg_trigger_tgqual, tupdesc, &isnull);

	trigger->trigger = form->oid;
	trigger->parent = form->tgparentid;
	trigger->function = form->tgfoid;
	trigger->type = form->tgtype;
	trigger->enabled = form->tgenabled;
	trigger->name = pstrdup(NameStr(form->tgname));
	trigger->argument = obx_rule_argument(tuple, tupdesc);
	trigger->condition = isnull ? NULL : TextDatumGetCString(condition);
	trigger->rule = obx_rule_from_json(trigger->argument);
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

		if (form->tgfoid == row_function || form->tgfoid == statement_function)
			triggers = lappend(triggers, read_trigger(tuple, RelationGetDescr(catalog)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return triggers;
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
	obx_rule_permit_partitions(rel);
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
