/*
 * Versions of captured tables: which columns, of which types, an event's data
 * was made of.
 *
 * Versions are counted for each source, by which events name their table; a
 * table that is renamed goes on counting under its new name.  The number at
 * present is part of the rules' own argument: so it changes with the relcache
 * entry, and a row is never given another version than that of the columns by
 * which it was written.  The history is outbox.schema_version.
 *
 * Only the rule's table counts; the tables below have the same columns.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "capture/headers.h"
#include "capture/inherit.h"
#include "capture/rule.h"
#include "capture/rule_trigger.h"
#include "capture/version.h"
#include "catalog/schema_version.h"
#include "log/counter.h"
#include "log/generation.h"

/* ---- columns ---- */

/* A type's name that does not depend on the search path. */
static char *
name_type(Oid type, int32 typmod)
{
	static const char system[] = "pg_catalog.";
	char	   *name = format_type_extended(type, typmod, FORMAT_TYPE_TYPEMOD_GIVEN |
											FORMAT_TYPE_FORCE_QUALIFY);

	return strncmp(name, system, strlen(system)) == 0 ? name + strlen(system) : name;
}

static void
push_member(ObxJsonState * state, const char *name, char *string)
{
	JsonbValue	value;

	value.type = jbvString;
	value.val.string.val = unconstify(char *, name);
	value.val.string.len = strlen(name);
	obx_json_push(state, WJB_KEY, &value);
	value.val.string.val = string;
	value.val.string.len = strlen(string);
	obx_json_push(state, WJB_VALUE, &value);
}

static int
count_columns(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	int			count;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	count = ((Form_pg_class) GETSTRUCT(tuple))->relnatts;
	ReleaseSysCache(tuple);
	return count;
}

/* As in outbox.schema_version.columns. */
static Jsonb *
describe_columns(Oid relid)
{
	ObxJsonState state = {0};
	int			count = count_columns(relid);

	obx_json_push(&state, WJB_BEGIN_ARRAY, NULL);
	for (int attnum = 1; attnum <= count; attnum++)
	{
		HeapTuple	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(relid),
											Int16GetDatum(attnum));
		Form_pg_attribute attribute;

		if (!HeapTupleIsValid(tuple))
			elog(ERROR, "cache lookup failed for column %d of relation %u", attnum, relid);
		attribute = (Form_pg_attribute) GETSTRUCT(tuple);
		if (!attribute->attisdropped && !obx_attribute_is_virtual(attribute))
		{
			obx_json_push(&state, WJB_BEGIN_OBJECT, NULL);
			push_member(&state, "name", pstrdup(NameStr(attribute->attname)));
			push_member(&state, "type", name_type(attribute->atttypid, attribute->atttypmod));
			obx_json_push(&state, WJB_END_OBJECT, NULL);
		}
		ReleaseSysCache(tuple);
	}
	return obx_json_finish(&state, WJB_END_ARRAY);
}

static bool
columns_equal(Jsonb *a, Jsonb *b)
{
	return a != NULL && compareJsonbContainers(&a->root, &b->root) == 0;
}

/* ---- versions ---- */

/* What the table's own rules say; 0 if it has none. */
static int
find_current(Oid relid)
{
	ListCell   *lc;

	foreach(lc, obx_rule_list(relid))
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (!OidIsValid(trigger->parent))
			return trigger->rule->schema_version;
	}
	return 0;
}

/*
 * The number for these columns, which are recorded under it: that of the last
 * version if they are the same, else the next one, and no less than "least".
 */
static int
record(const char *source, Jsonb *columns, int least)
{
	Jsonb	   *last_columns;
	int			last = obx_schema_version_last(source, &last_columns);

	if (last >= least && columns_equal(last_columns, columns))
		return last;
	last = Max(last + 1, least);
	obx_schema_version_insert(source, last, columns);
	return last;
}

int
obx_version_begin(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	int			current = find_current(relid);

	if (current > 0)
		return current;
	return record(obx_headers_relation_name(relid), describe_columns(relid), 1);
}

/* Does the command change which columns a table has, or of which types? */
static bool
changes_columns(Node *command)
{
	ListCell   *lc;

	if (command == NULL)
		return true;
	if (IsA(command, RenameStmt))
		return ((RenameStmt *) command)->renameType == OBJECT_COLUMN ||
			((RenameStmt *) command)->renameType == OBJECT_ATTRIBUTE;
	if (!IsA(command, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) command)->cmds)
	{
		AlterTableType type = ((AlterTableCmd *) lfirst(lc))->subtype;

		if (type == AT_AddColumn || type == AT_DropColumn || type == AT_AlterColumnType)
			return true;
	}
	return false;
}

static bool
changes_name(Node *command)
{
	return command != NULL && (IsA(command, RenameStmt) || IsA(command, AlterObjectSchemaStmt)) &&
		!changes_columns(command);
}

/* One table with rules of its own, which say that it has that version. */
static void
follow_table(Oid relid, int current, Node *command)
{
	char	   *source = obx_headers_relation_name(relid);
	Jsonb	   *columns = describe_columns(relid);
	Jsonb	   *recorded = obx_schema_version_find(source, current);
	int			version;

	if (columns_equal(recorded, columns))
		return;

	/*
	 * Without a record the table has come by a new name, or its rule by a
	 * dump that left the record out.  Then the columns are those of the dump,
	 * which are of the version that the rule says.
	 */
	if (recorded == NULL && !changes_columns(command) && !changes_name(command))
	{
		/* they may be about to be loaded: then the first event looks */
		if (IsA(command, CreateTrigStmt) && obx_counter_state() == OBX_COUNTER_DRAWN)
			obx_schema_version_insert(source, current, columns);
		return;
	}
	version = record(source, columns, changes_name(command) ? current : current + 1);
	if (version != current)
		obx_rule_set_version(relid, version);
}

void
obx_version_follow(Oid relid, Node *command)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
	{
		int			current = find_current(lfirst_oid(lc));

		if (current > 0)
			follow_table(lfirst_oid(lc), current, command);
	}
}

/* ---- what a restore brought ---- */

/*
 * Records the versions that rules name and nobody knows; or only says whether
 * there is one.
 */
static bool
record_unknown(bool look_only)
{
	Relation	catalog = table_open(TriggerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;

	while (!(found && look_only) && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);
		int			current;

		if (!obx_rule_is_function(trigger->tgfoid))
			continue;
		current = find_current(trigger->tgrelid);
		if (current == 0 ||
			obx_schema_version_find(obx_headers_relation_name(trigger->tgrelid), current) != NULL)
			continue;
		found = true;
		if (look_only)
			continue;
		obx_schema_version_insert(obx_headers_relation_name(trigger->tgrelid), current,
								  describe_columns(trigger->tgrelid));
		CommandCounterIncrement();
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* obx_generation_on_load()'s functions */

static bool
needs_settling(void)
{
	return record_unknown(true);
}

static int64
settle(void)
{
	(void) record_unknown(false);
	return 0;
}

void
obx_version_init(void)
{
	obx_generation_on_load(needs_settling, settle);
}
