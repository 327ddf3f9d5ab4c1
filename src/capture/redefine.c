/*
 * A rule that is there already, against one that is asked for: what differs, in
 * words.
 *
 * A condition is compared as it was written, and as it was understood: the
 * same text means something else in another search_path.  A disabled or
 * dropped trigger is a difference too: the caller asks for a rule in order to
 * have the changes captured.
 *
 * Must not know events.
 */
#include "postgres.h"

#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "base/compat.h"
#include "capture/condition.h"
#include "capture/define.h"
#include "capture/redefine.h"
#include "capture/rule_trigger.h"

/* Bytes of a value that are shown. */
#define SHOWN 200

/* The rule's own triggers on its table. */
static List *
list_own_triggers(Relation rel, const char *name)
{
	List	   *triggers = NIL;
	ListCell   *lc;

	foreach(lc, obx_rule_list(RelationGetRelid(rel)))
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (!OidIsValid(trigger->parent) && strcmp(trigger->rule->name, name) == 0)
			triggers = lappend(triggers, trigger);
	}
	return triggers;
}

bool
obx_redefine_is_there(Relation rel, const char *name)
{
	return list_own_triggers(rel, name) != NIL;
}

/* ---- properties as texts ---- */

static char *
show_list(List *names)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, names)
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", quote_identifier(lfirst(lc)));
	return text.data;
}

static char *
show_key(const ObxRule *rule)
{
	return rule->no_key ? pstrdup("none") :
		rule->key == NIL ? pstrdup("the table's") : show_list(rule->key);
}

static char *
show_columns(const ObxRule *rule)
{
	if (rule->columns != NIL)
		return show_list(rule->columns);
	if (rule->exclude != NIL)
		return psprintf("all but %s", show_list(rule->exclude));
	return pstrdup("all");
}

/* All of its triggers are there and fire. */
static bool
is_enabled(const ObxRule *rule, List *triggers)
{
	char		wanted = rule->replicated ? TRIGGER_FIRES_ALWAYS : TRIGGER_FIRES_ON_ORIGIN;
	int			count = ((rule->operations & OBX_CAPTURE_ROWS) != 0) +
	((rule->operations & OBX_CAPTURE_TRUNCATE) != 0);
	ListCell   *lc;

	foreach(lc, triggers)
		if (((ObxRuleTrigger *) lfirst(lc))->enabled != wanted)
		return false;
	return list_length(triggers) == count;
}

/* ---- comparing ---- */

static void
add_change(StringInfo text, const char *property, const char *old, const char *new)
{
	int			old_length = pg_mbcliplen(old, strlen(old), SHOWN);
	int			new_length = pg_mbcliplen(new, strlen(new), SHOWN);

	appendStringInfo(text, "%s%s: %.*s%s -> %.*s%s", text->len > 0 ? "\n" : "", property,
					 old_length, old, old[old_length] == '\0' ? "" : "...",
					 new_length, new, new[new_length] == '\0' ? "" : "...");
}

static void
compare(StringInfo text, const char *property, const char *old, const char *new)
{
	if (strcmp(old, new) != 0)
		add_change(text, property, old, new);
}

static void
compare_conditions(StringInfo text, const ObxRule *old, const ObxRule *new, List *triggers,
				   const ObxCondition *condition)
{
	const char *none = "none";
	ListCell   *lc;

	if (strcmp(old->condition != NULL ? old->condition : none,
			   new->condition != NULL ? new->condition : none) != 0)
	{
		add_change(text, "condition", old->condition != NULL ? old->condition : none,
				   new->condition != NULL ? new->condition : none);
		return;
	}
	foreach(lc, triggers)
	{
		const ObxRuleTrigger *trigger = lfirst(lc);

		if (TRIGGER_FOR_ROW(trigger->type) && condition != NULL && trigger->condition != NULL &&
			!equal(stringToNode(trigger->condition), condition->expression))
			add_change(text, "condition", "its names meant other objects", new->condition);
	}
}

char *
obx_redefine_describe(Relation rel, const ObxRule *wanted)
{
	List	   *triggers = list_own_triggers(rel, wanted->name);
	const ObxRule *old = ((ObxRuleTrigger *) linitial(triggers))->rule;
	ObxRule		new = *wanted;
	ObxCondition *condition = obx_rule_resolve(rel, &new);
	StringInfoData text;

	initStringInfo(&text);
	compare(&text, "type", old->type != NULL ? old->type : "none",
			new.type != NULL ? new.type : "none");
	compare(&text, "operations", show_list(obx_rule_operations(old)),
			show_list(obx_rule_operations(&new)));
	compare_conditions(&text, old, &new, triggers, condition);
	compare(&text, "key", show_key(old), show_key(&new));
	compare(&text, "columns", show_columns(old), show_columns(&new));
	compare(&text, "old_values", obx_rule_old_values_name(old->old_values),
			obx_rule_old_values_name(new.old_values));
	compare(&text, "replicated", old->replicated ? "true" : "false",
			new.replicated ? "true" : "false");
	compare(&text, "enabled", is_enabled(old, triggers) ? "true" : "false", "true");
	return text.len > 0 ? text.data : NULL;
}
