/*
 * Rules along partitioning and inheritance, where PostgreSQL does not carry
 * triggers by itself.
 *
 * PostgreSQL clones row triggers to partitions.  It clones neither triggers
 * for TRUNCATE nor anything to the children of plain inheritance.  So that is
 * done here, in the same form: a clone has the trigger above as its parent,
 * goes with it, is not dumped, and fires under the rule of the table where
 * the chain of parents ends.
 *
 * Works on pg_trigger alone, so that tables that lack nothing are not locked:
 * to attach a partition must not stop the writers of the others.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/names.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "rewrite/prs2lock.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/identity.h"
#include "capture/inherit.h"
#include "capture/rule_trigger.h"

/* ---- what a table has, and should have ---- */

/* The tables directly above. */
static List *
list_parents(Oid relid)
{
	Relation	catalog = table_open(InheritsRelationId, AccessShareLock);
	List	   *parents = NIL;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, InheritsRelidSeqnoIndexId, true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		parents = lappend_oid(parents, ((Form_pg_inherits) GETSTRUCT(tuple))->inhparent);
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return parents;
}

/* A copy; NULL if there is none. */
static Form_pg_trigger
find_trigger(Relation catalog, Oid trigger)
{
	HeapTuple	tuple = obx_rule_trigger_row(catalog, trigger);

	return tuple != NULL ? (Form_pg_trigger) GETSTRUCT(tuple) : NULL;
}

/* The trigger with which the chain of clones begins. */
static Oid
find_origin(Oid trigger)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	Form_pg_trigger form;

	while ((form = find_trigger(catalog, trigger)) != NULL && OidIsValid(form->tgparentid))
		trigger = form->tgparentid;
	table_close(catalog, AccessShareLock);
	return trigger;
}

/* Several ways may lead up to one rule; it fires once. */
static bool
has_clone_of(List *triggers, Oid origin)
{
	ListCell   *lc;

	foreach(lc, triggers)
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (OidIsValid(trigger->parent) && find_origin(trigger->parent) == origin)
			return true;
	}
	return false;
}

/* ---- making clones ---- */

static char *
choose_clone_name(Oid relid, const char *wanted)
{
	char	   *name = pstrdup(wanted);

	for (int number = 1; OidIsValid(get_trigger_oid(relid, name, true)); number++)
		name = makeObjectName(wanted, psprintf("%d", number), NULL);
	return name;
}

/* The trigger's WHEN, for the columns of a table below. */
static Node *
map_condition(const char *stored, Relation parent, Relation child)
{
	List	   *condition;

	if (stored == NULL)
		return NULL;
	condition = stringToNode(stored);
	condition = map_partition_varattnos(condition, PRS2_OLD_VARNO, child, parent);
	condition = map_partition_varattnos(condition, PRS2_NEW_VARNO, child, parent);
	return (Node *) condition;
}

static void
create_clone(Oid relid, Oid parent_relid, const ObxRuleTrigger *original)
{
	ObxRuleTrigger clone = *original;
	Relation	child;
	Relation	parent;

	child = table_open(relid, ShareRowExclusiveLock);
	parent = table_open(parent_relid, AccessShareLock);
	clone.parent = original->trigger;
	clone.name = choose_clone_name(relid, original->name);
	obx_rule_create_trigger(relid, &clone, map_condition(original->condition, parent, child));
	table_close(parent, NoLock);
	table_close(child, NoLock);
}

/* Is that a clone that PostgreSQL makes, or that there cannot be? */
static bool
is_not_ours(Oid relid, const ObxRuleTrigger *trigger)
{
	if (TRIGGER_FOR_ROW(trigger->type))
		return get_rel_relispartition(relid);
	return !obx_can_have_truncate_trigger(get_rel_relkind(relid));
}

static bool
lock_tables(Oid relid, Oid parent, bool wait)
{
	if (!wait)
		return ConditionalLockRelationOid(relid, ShareRowExclusiveLock) &&
			ConditionalLockRelationOid(parent, AccessShareLock);
	LockRelationOid(relid, ShareRowExclusiveLock);
	return true;
}

/*
 * What a table lacks of the rules of those directly above it; false if a lock
 * could not be had without waiting.
 */
static bool
inherit_rules(Oid relid, bool wait, int *made)
{
	ListCell   *above;

	foreach(above, list_parents(relid))
	{
		Oid			parent = lfirst_oid(above);
		ListCell   *lc;

		foreach(lc, obx_rule_list(parent))
		{
			ObxRuleTrigger *trigger = lfirst(lc);
			Oid			origin = find_origin(trigger->trigger);

			if (is_not_ours(relid, trigger) || has_clone_of(obx_rule_list(relid), origin))
				continue;
			if (!lock_tables(relid, parent, wait))
				return false;
			/* it may have been made, or the table dropped, in the meantime */
			if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)) ||
				has_clone_of(obx_rule_list(relid), origin) ||
				obx_rule_find_trigger(trigger->trigger) == NULL)
				continue;
			create_clone(relid, parent, trigger);
			(*made)++;
		}
	}
	return true;
}

bool
obx_rule_inherit(Oid relid, int *made)
{
	return inherit_rules(relid, false, made);
}

void
obx_rule_spread(Oid relid)
{
	ListCell   *lc;
	int			made = 0;

	(void) inherit_rules(relid, true, &made);
	if (!has_subclass(relid) || obx_rule_list(relid) == NIL)
		return;
	/* those above come before those below */
	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
		(void) inherit_rules(lfirst_oid(lc), true, &made);
}

/* ---- removing clones ---- */

void
obx_rule_leave(Oid relid)
{
	List	   *parents = NIL;
	Relation	catalog = NULL;
	ListCell   *lc;

	foreach(lc, obx_rule_list(relid))
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		Form_pg_trigger parent;
		ObjectAddress address;

		if (!OidIsValid(trigger->parent))
			continue;
		if (catalog == NULL)
		{
			catalog = table_open(TriggerRelationId, AccessShareLock);
			parents = list_parents(relid);
		}
		parent = find_trigger(catalog, trigger->parent);
		if (parent == NULL || list_member_oid(parents, parent->tgrelid))
			continue;

		/* as DETACH PARTITION does: else the trigger cannot go alone */
		deleteDependencyRecordsForClass(TriggerRelationId, trigger->trigger,
										TriggerRelationId, DEPENDENCY_PARTITION_PRI);
		deleteDependencyRecordsForClass(TriggerRelationId, trigger->trigger,
										RelationRelationId, DEPENDENCY_PARTITION_SEC);
		CommandCounterIncrement();
		ObjectAddressSet(address, TriggerRelationId, trigger->trigger);
		performDeletion(&address, DROP_CASCADE, PERFORM_DELETION_INTERNAL);
	}
	if (catalog != NULL)
		table_close(catalog, AccessShareLock);
}

/* ---- rights ---- */

static void
permit(Oid function, Oid role)
{
	GrantStmt  *grant = makeNode(GrantStmt);
	ObjectWithArgs *object = makeNode(ObjectWithArgs);
	RoleSpec   *grantee = makeNode(RoleSpec);
	AccessPriv *privilege = makeNode(AccessPriv);
	ObxIdentity former;

	object->objname = list_make2(makeString(pstrdup(OBX_SCHEMA_NAME)),
								 makeString(get_func_name(function)));
	grantee->roletype = ROLESPEC_CSTRING;
	grantee->rolename = GetUserNameFromId(role, false);
	privilege->priv_name = pstrdup("execute");
	grant->is_grant = true;
	grant->targtype = ACL_TARGET_OBJECT;
	grant->objtype = OBJECT_FUNCTION;
	grant->objects = list_make1(object);
	grant->privileges = list_make1(privilege);
	grant->grantees = list_make1(grantee);

	obx_identity_assume(&former, BOOTSTRAP_SUPERUSERID);
	ExecuteGrantStmt(grant);
	obx_identity_restore(&former);
	CommandCounterIncrement();
}

void
obx_rule_permit_partitions(Oid relid)
{
	HeapTuple	tuple;
	Oid			owner;
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	foreach(lc, obx_rule_list(relid))
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (TRIGGER_FOR_ROW(trigger->type) &&
			obx_object_aclcheck(ProcedureRelationId, trigger->function, owner,
								ACL_EXECUTE) != ACLCHECK_OK)
			permit(trigger->function, owner);
	}
}

/* ---- changing ---- */

static bool
rename_in(List *names, const char *old_name, const char *new_name)
{
	bool		found = false;
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), old_name) == 0)
	{
		lfirst(lc) = pstrdup(new_name);
		found = true;
	}
	return found;
}

static void
replace_argument(Relation catalog, Oid relid, Oid trigger, const char *argument)
{
	Datum		values[Natts_pg_trigger] = {0};
	bool		nulls[Natts_pg_trigger] = {0};
	bool		replace[Natts_pg_trigger] = {0};
	int			length = strlen(argument) + 1;
	bytea	   *bytes = palloc(VARHDRSZ + length);
	HeapTuple	tuple = obx_rule_trigger_row(catalog, trigger);

	if (tuple == NULL)
		return;

	/* strings that end with a zero byte; here there is one */
	SET_VARSIZE(bytes, VARHDRSZ + length);
	memcpy(VARDATA(bytes), argument, length);
	values[Anum_pg_trigger_tgargs - 1] = PointerGetDatum(bytes);
	replace[Anum_pg_trigger_tgargs - 1] = true;

	tuple = heap_modify_tuple(tuple, RelationGetDescr(catalog), values, nulls, replace);
	CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
	CacheInvalidateRelcacheByRelid(relid);
}

static void
set_enabled(Relation catalog, const ObxRuleTrigger *trigger, char enabled)
{
	HeapTuple	tuple = obx_rule_trigger_row(catalog, trigger->trigger);

	if (tuple == NULL)
		return;
	((Form_pg_trigger) GETSTRUCT(tuple))->tgenabled = enabled;
	CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
	CacheInvalidateRelcacheByRelid(trigger->relation);
}

/* Gives all triggers below the state of the one that they are clones of. */
static void
spread_enabled(Relation catalog, const ObxRuleTrigger *origin)
{
	ListCell   *below;

	foreach(below, find_all_inheritors(origin->relation, NoLock, NULL))
	{
		ListCell   *lc;

		if (lfirst_oid(below) == origin->relation)
			continue;
		foreach(lc, obx_rule_list(lfirst_oid(below)))
		{
			ObxRuleTrigger *trigger = lfirst(lc);

			if (trigger->enabled == origin->enabled || !OidIsValid(trigger->parent) ||
				find_origin(trigger->trigger) != find_origin(origin->trigger))
				continue;
			LockRelationOid(trigger->relation, ShareRowExclusiveLock);
			set_enabled(catalog, trigger, origin->enabled);
		}
	}
}

/* What the command does to triggers of that name, or AT_AddColumn for nothing. */
static AlterTableType
find_enabling(const AlterTableStmt * alter, const char *name)
{
	AlterTableType found = AT_AddColumn;
	ListCell   *lc;

	foreach(lc, alter->cmds)
	{
		AlterTableCmd *command = lfirst(lc);

		switch (command->subtype)
		{
			case AT_EnableTrig:
			case AT_EnableAlwaysTrig:
			case AT_EnableReplicaTrig:
			case AT_DisableTrig:
				if (strcmp(command->name, name) == 0)
					found = command->subtype;
				break;
			case AT_EnableTrigAll:
			case AT_EnableTrigUser:
			case AT_DisableTrigAll:
			case AT_DisableTrigUser:
				found = command->subtype;
				break;
			default:
				break;
		}
	}
	return found;
}

void
obx_rule_follow_enabled(Oid relid, Node *command)
{
	AlterTableStmt *alter = (AlterTableStmt *) command;
	bool		has_below;
	Relation	catalog;
	ListCell   *lc;

	if (!IsA(command, AlterTableStmt))
		return;
	has_below = alter->relation->inh && has_subclass(relid);
	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	foreach(lc, obx_rule_list(relid))
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		AlterTableType enabling = find_enabling(alter, trigger->name);

		if ((enabling == AT_EnableTrigAll || enabling == AT_EnableTrigUser) &&
			trigger->rule->replicated && trigger->enabled != TRIGGER_FIRES_ALWAYS)
		{
			trigger->enabled = TRIGGER_FIRES_ALWAYS;
			set_enabled(catalog, trigger, trigger->enabled);
			CommandCounterIncrement();
		}
		if (has_below && enabling != AT_AddColumn)
			spread_enabled(catalog, trigger);
	}
	table_close(catalog, RowExclusiveLock);
	CommandCounterIncrement();
}

void
obx_rule_rename_column(Oid relid, const char *old_name, const char *new_name)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	ListCell   *below;

	/* the new name reaches all tables below, or the command fails */
	foreach(below, find_all_inheritors(relid, NoLock, NULL))
	{
		ListCell   *lc;

		foreach(lc, obx_rule_list(lfirst_oid(below)))
		{
			ObxRuleTrigger *trigger = lfirst(lc);
			ObxRule    *rule = trigger->rule;
			bool		found = rename_in(rule->key, old_name, new_name);

			found |= rename_in(rule->default_key, old_name, new_name);
			found |= rename_in(rule->columns, old_name, new_name);
			found |= rename_in(rule->exclude, old_name, new_name);
			if (found)
				replace_argument(catalog, lfirst_oid(below), trigger->trigger,
								 obx_rule_to_json(rule));
		}
	}
	table_close(catalog, RowExclusiveLock);
	CommandCounterIncrement();
}

void
obx_rule_set_version(Oid relid, int version)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	ListCell   *lc;

	foreach(lc, obx_rule_list(relid))
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (OidIsValid(trigger->parent))
			continue;
		trigger->rule->schema_version = version;
		replace_argument(catalog, relid, trigger->trigger, obx_rule_to_json(trigger->rule));
	}
	table_close(catalog, RowExclusiveLock);
	CommandCounterIncrement();
}

static bool
names_equal(List *a, List *b)
{
	ListCell   *la;
	ListCell   *lb;

	if (list_length(a) != list_length(b))
		return false;
	forboth(la, a, lb, b)
		if (strcmp(lfirst(la), lfirst(lb)) != 0)
		return false;
	return true;
}

bool
obx_rule_set_default_key(Relation rel, List **former, List **current)
{
	Relation	catalog = NULL;
	bool		changed = false;
	ListCell   *lc;

	foreach(lc, obx_rule_list(RelationGetRelid(rel)))
	{
		ObxRuleTrigger *trigger = lfirst(lc);
		ObxRule    *rule = trigger->rule;
		List	   *key = OidIsValid(trigger->parent) ? NIL : obx_rule_default_key(rule, rel);

		if (OidIsValid(trigger->parent) ||
			(rule->has_default_key && names_equal(rule->default_key, key)))
			continue;
		if (rule->has_default_key && TRIGGER_FOR_ROW(trigger->type))
		{
			changed = true;
			*former = rule->default_key;
			*current = key;
		}
		if (catalog == NULL)
			catalog = table_open(TriggerRelationId, RowExclusiveLock);
		rule->default_key = key;
		rule->has_default_key = true;
		replace_argument(catalog, RelationGetRelid(rel), trigger->trigger,
						 obx_rule_to_json(rule));
	}
	if (catalog != NULL)
	{
		table_close(catalog, RowExclusiveLock);
		CommandCounterIncrement();
	}
	return changed;
}
