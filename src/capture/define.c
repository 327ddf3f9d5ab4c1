/*
 * Rules in the catalog: the triggers of a rule are made and dropped.
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
#include "capture/define.h"
#include "capture/inherit.h"
#include "capture/rule_trigger.h"
#include "capture/version.h"
#include "catalog/names.h"

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

ObxCondition *
obx_rule_resolve(Relation rel, ObxRule *rule)
{
	ObxCondition *condition = NULL;
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
	return condition;
}

void
obx_rule_create(Relation rel, ObxRule *rule)
{
	ObxCondition *condition = obx_rule_resolve(rel, rule);
	ObxRuleTrigger trigger = {0};

	rule->schema_version = obx_version_begin(rel);
	rule->default_key = obx_rule_default_key(rule, rel);
	rule->has_default_key = true;
	trigger.argument = obx_rule_to_json(rule);
	trigger.enabled = rule->replicated ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
	if (rule->operations & OBX_CAPTURE_ROWS)
	{
		ObjectAddress address;

		trigger.name = choose_trigger_name(rel, rule->name, NULL);
		trigger.function = obx_rule_function(true);
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
		trigger.function = obx_rule_function(false);
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
