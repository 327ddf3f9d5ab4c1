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
#include "utils/syscache.h"

#include "base/compat.h"
#include "capture/condition.h"
#include "capture/rule.h"
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

/* The trigger's first argument; it has one if the rule was made by us. */
static char *
get_argument(HeapTuple tuple, TupleDesc tupdesc)
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

List *
obx_rule_list(Relation rel)
{
	Oid			row_function = require_function(ROW_FUNCTION);
	Oid			statement_function = require_function(STATEMENT_FUNCTION);
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	List	   *triggers = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(RelationGetRelid(rel)));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		ObxRuleTrigger *trigger;

		if (form->tgfoid != row_function && form->tgfoid != statement_function)
			continue;
		trigger = palloc(sizeof(ObxRuleTrigger));
		trigger->trigger = form->oid;
		trigger->parent = form->tgparentid;
		trigger->rule = obx_rule_from_json(get_argument(tuple, RelationGetDescr(catalog)));
		triggers = lappend(triggers, trigger);
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
static ObjectAddress
create_trigger(Relation rel, char *name, const char *function, char *argument,
			   int16 events, bool row, Node *when)
{
	CreateTrigStmt *statement = makeNode(CreateTrigStmt);
	Oid			function_oid = require_function(function);
	ObjectAddress address;
	Oid			user;
	int			security;

	statement->trigname = name;
	statement->funcname = list_make2(makeString(pstrdup("outbox")),
									 makeString(pstrdup(function)));
	statement->args = list_make1(makeString(argument));
	statement->row = row;
	statement->timing = TRIGGER_TYPE_AFTER;
	statement->events = events;

	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE);
	address = CreateTrigger(statement, NULL, RelationGetRelid(rel), InvalidOid, InvalidOid,
							InvalidOid, function_oid, InvalidOid, when, false, false);
	SetUserIdAndSecContext(user, security);
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

void
obx_rule_create(Relation rel, const ObxRule *rule, int operations)
{
	char	   *argument = obx_rule_to_json(rule);
	ObxCondition *condition = NULL;
	int			allowed = OBX_CAPTURE_ALL;

	if (rule->condition != NULL)
	{
		condition = obx_condition_parse(rel, rule->condition);
		allowed = condition->operations;
	}
	if (operations == 0)
		operations = allowed;
	if (operations & ~allowed)
		report_unserved(operations, allowed);

	if (operations & OBX_CAPTURE_ROWS)
	{
		int16		events = 0;
		ObjectAddress address;

		if (operations & OBX_CAPTURE_INSERT)
			events |= TRIGGER_TYPE_INSERT;
		if (operations & OBX_CAPTURE_UPDATE)
			events |= TRIGGER_TYPE_UPDATE;
		if (operations & OBX_CAPTURE_DELETE)
			events |= TRIGGER_TYPE_DELETE;
		address = create_trigger(rel, choose_trigger_name(rel, rule->name, NULL),
								 ROW_FUNCTION, argument, events, true,
								 condition != NULL ? condition->expression : NULL);
		/* CREATE TRIGGER does this only for conditions that it parsed itself */
		if (condition != NULL)
			recordDependencyOnExpr(&address, condition->expression,
								   condition->range_table, DEPENDENCY_NORMAL);
	}
	if (operations & OBX_CAPTURE_TRUNCATE)
		create_trigger(rel, choose_trigger_name(rel, rule->name, "truncate"),
					   STATEMENT_FUNCTION, argument, TRIGGER_TYPE_TRUNCATE, false, NULL);
}

/* ---- dropping ---- */

int
obx_rule_drop(Relation rel, const char *name)
{
	List	   *names = NIL;
	ObjectAddresses *objects = new_object_addresses();
	ListCell   *lc;

	foreach(lc, obx_rule_list(rel))
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
