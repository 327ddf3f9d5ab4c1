/*
 * NOTICEs where DDL changes what subscribers get.
 *
 * Nothing is refused here: the events' types, source and key follow the table,
 * as they must.  But who changes the table seldom thinks of those who subscribe
 * to it, so the command says what it did to them.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "base/compat.h"
#include "capture/headers.h"
#include "capture/inherit.h"
#include "capture/notice.h"
#include "capture/rule.h"
#include "capture/rule_trigger.h"
#include "catalog/schema_version.h"

static char *
join_names(List *names)
{
	StringInfoData out;
	ListCell   *lc;

	initStringInfo(&out);
	foreach(lc, names)
		appendStringInfo(&out, "%s%s", out.len > 0 ? ", " : "", (char *) lfirst(lc));
	return out.data;
}

void
obx_notice_key(Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);
	List	   *former;
	List	   *current;
	bool		changed;

	if (!RelationIsValid(rel))
		return;
	changed = obx_rule_set_default_key(rel, &former, &current);
	RelationClose(rel);
	if (!changed)
		return;
	if (current == NIL)
		ereport(NOTICE,
				(errmsg("events of table \"%s\" have no key any more",
						get_rel_name(relid)),
				 errdetail("The key was (%s).  Events without a key have no order among each other.",
						   join_names(former)),
				 errhint("Add a primary key, or make the capture rule anew with a key.")));
	else if (former == NIL)
		ereport(NOTICE,
				(errmsg("events of table \"%s\" have a key now", get_rel_name(relid)),
				 errdetail("It is (%s).", join_names(current))));
	else
		ereport(NOTICE,
				(errmsg("events of table \"%s\" have another key now",
						get_rel_name(relid)),
				 errdetail("The key was (%s), and is (%s).", join_names(former),
						   join_names(current))));
}

/* Rules of the table's own, and those of them whose types have its name. */
static int
count_rules(Oid relid, int *named_after_table)
{
	int			count = 0;
	ListCell   *lc;

	*named_after_table = 0;
	foreach(lc, obx_rule_list(relid))
	{
		ObxRuleTrigger *trigger = lfirst(lc);

		if (OidIsValid(trigger->parent))
			continue;
		count++;
		if (trigger->rule->type == NULL)
			(*named_after_table)++;
	}
	return count;
}

static bool
renames_table(Node *command)
{
	RenameStmt *rename = (RenameStmt *) command;

	return IsA(command, RenameStmt) && rename->relation != NULL &&
		rename->renameType != OBJECT_COLUMN && rename->renameType != OBJECT_ATTRIBUTE &&
		rename->renameType != OBJECT_TABCONSTRAINT && rename->renameType != OBJECT_TRIGGER &&
		rename->renameType != OBJECT_POLICY && rename->renameType != OBJECT_RULE;
}

static bool
renames_schema(Node *command)
{
	return IsA(command, RenameStmt) && ((RenameStmt *) command)->renameType == OBJECT_SCHEMA;
}

static bool
moves_table(Node *command)
{
	ObjectType	kind;

	if (!IsA(command, AlterObjectSchemaStmt))
		return false;
	kind = ((AlterObjectSchemaStmt *) command)->objectType;
	return kind != OBJECT_TYPE && kind != OBJECT_DOMAIN;
}

/* Is the table in a schema that the command gave its name, or put things into? */
static bool
is_concerned(Oid relid, Node *command)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));
	bool		of_extension = IsA(command, AlterObjectSchemaStmt) &&
	((AlterObjectSchemaStmt *) command)->objectType == OBJECT_EXTENSION;
	const char *new_schema = IsA(command, RenameStmt) ? ((RenameStmt *) command)->newname :
	((AlterObjectSchemaStmt *) command)->newschema;

	return schema != NULL && strcmp(schema, new_schema) == 0 &&
		(!of_extension || OidIsValid(getExtensionOfObject(RelationRelationId, relid)));
}

static void
notice_replaced(Oid relid, const char *source)
{
	Jsonb	   *columns;

	if (obx_schema_version_last(source, &columns) == 0 || obx_rule_list(relid) != NIL)
		return;
	ereport(NOTICE,
			(errmsg("table \"%s\" is not captured", get_rel_name(relid)),
			 errdetail("Events with the source \"%s\" came from another table of this name.", source),
			 errhint("Capture it with outbox.capture(), if those who subscribe are to go on.")));
}

void
obx_notice_names(Oid relid, Node *command)
{
	bool		renamed = renames_table(command);
	bool		moved = renames_schema(command) || moves_table(command);
	bool		created = IsA(command, CreateStmt) || IsA(command, CreateTableAsStmt) ||
	IsA(command, CreateForeignTableStmt) || IsA(command, CreateSchemaStmt);
	int			named_after_table;
	char	   *source;

	if (!renamed && !moved && !created)
		return;
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		return;
	source = obx_headers_relation_name(relid);
	if (count_rules(relid, &named_after_table) == 0)
		notice_replaced(relid, source);
	else if (renamed && named_after_table > 0)
		ereport(NOTICE,
				(errmsg("events of table \"%s\" have other types now", get_rel_name(relid)),
				 errdetail("\"%s.inserted\", and the like, are \"%s.inserted\" now, with the source \"%s\".",
						   ((RenameStmt *) command)->relation->relname, get_rel_name(relid), source),
				 errhint("Change the types of the subscriptions, or make the capture rule anew with a type.")));
	else if (renamed || (moved && is_concerned(relid, command)))
		ereport(NOTICE,
				(errmsg("events of table \"%s\" have another source now", get_rel_name(relid)),
				 errdetail("It is \"%s\".", source)));
}
