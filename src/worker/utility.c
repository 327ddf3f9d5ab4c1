/*
 * The utility hook: commands that concern the workers.
 *
 * Commands that need a database for themselves first have our workers leave
 * it; so do those that drop or replace the extension.  Commands that may give
 * the workers something to do, or to do otherwise, ring at commit.
 *
 * Only whoever may run the command can make workers leave: the rights are
 * looked at first, and it is left to the command to complain.
 */
#include "postgres.h"

#include "base/hook.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "nodes/parsenodes.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/names.h"
#include "catalog/registered_type.h"
#include "catalog/subscription.h"
#include "worker/hold.h"
#include "worker/slot.h"
#include "worker/utility.h"

static ProcessUtility_hook_type previous_process_utility = NULL;
static ProcessUtility_hook_type previous_reassign = NULL;

static void
hold_database(const char *name)
{
	Oid			database = name != NULL ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && obx_database_ownercheck(database, GetUserId()))
		obx_hold_take(database);
}

/*
 * For commands on the extension in this database.  In a dispatcher it is a
 * handler's: who waits for the workers would wait for itself, and then there
 * were no table to note in that the event was handled, again and again.
 */
static void
hold_own_database(void)
{
	Oid			extension = obx_extension_find();

	if (OidIsValid(extension) && obx_slot_own != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("extension \"%s\" cannot be altered or dropped in a handler",
						OBX_EXTENSION_NAME),
				 errdetail("The transaction is to note that the event was handled."),
				 errhint("Run the command in another session.")));
	if (OidIsValid(extension) && obx_extension_ownercheck(extension, GetUserId()))
		obx_hold_take(MyDatabaseId);
}

static const char *
find_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, name) == 0 && option->arg != NULL)
			return defGetString(option);
	}
	return NULL;
}

/* Whether a DROP names the extension, or the schema that it goes with. */
static bool
is_ours_dropped(const DropStmt * drop)
{
	const char *ours = drop->removeType == OBJECT_EXTENSION ? OBX_EXTENSION_NAME :
	drop->removeType == OBJECT_SCHEMA ? OBX_SCHEMA_NAME : NULL;
	ListCell   *cell;

	if (ours == NULL)
		return false;
	foreach(cell, drop->objects)
		if (strcmp(strVal(lfirst(cell)), ours) == 0)
		return true;
	return false;
}

/* Whether DROP OWNED takes the extension along. */
static bool
is_ours_dropped_with_owner(const DropOwnedStmt * drop)
{
	Oid			schema = get_namespace_oid(OBX_SCHEMA_NAME, true);
	ListCell   *cell;

	if (!OidIsValid(schema))
		return false;
	foreach(cell, drop->roles)
	{
		Oid			role = get_rolespec_oid(lfirst(cell), true);

		if (OidIsValid(role) && obx_namespace_ownercheck(schema, role) &&
			has_privs_of_role(GetUserId(), role))
			return true;
	}
	return false;
}

/* What must happen before the command runs. */
static void
prepare(Node *command)
{
	switch (nodeTag(command))
	{
		case T_DropdbStmt:
			hold_database(castNode(DropdbStmt, command)->dbname);
			break;
		case T_CreatedbStmt:
			hold_database(find_option(castNode(CreatedbStmt, command)->options, "template"));
			break;
		case T_AlterDatabaseStmt:
			if (find_option(castNode(AlterDatabaseStmt, command)->options, "tablespace"))
				hold_database(castNode(AlterDatabaseStmt, command)->dbname);
			break;
		case T_RenameStmt:
			if (castNode(RenameStmt, command)->renameType == OBJECT_DATABASE)
				hold_database(castNode(RenameStmt, command)->subname);
			break;
		case T_DropStmt:
			if (is_ours_dropped(castNode(DropStmt, command)))
				hold_own_database();
			break;
		case T_DropOwnedStmt:
			if (is_ours_dropped_with_owner(castNode(DropOwnedStmt, command)))
				hold_own_database();
			break;
		case T_AlterExtensionStmt:
			if (strcmp(castNode(AlterExtensionStmt, command)->extname, OBX_EXTENSION_NAME) == 0)
				hold_own_database();
			break;
		default:
			break;
	}
}

/* Whether a SET concerns the sequencer, rather than handlers only. */
static bool
is_ours_set(const VariableSetStmt * set)
{
	return set->name == NULL || strncmp(set->name, "outbox.", strlen("outbox.")) == 0;
}

static void
renew_for_role(const AlterRoleSetStmt * alter)
{
	Oid			database = alter->database ? get_database_oid(alter->database, true) : InvalidOid;
	Oid			role = alter->role ? get_rolespec_oid(alter->role, true) : InvalidOid;

	obx_hold_renew_later(database, role,
						 (role == InvalidOid || role == BOOTSTRAP_SUPERUSERID) &&
						 is_ours_set(alter->setstmt));
}

static void
renew_for_database(const AlterDatabaseSetStmt * alter)
{
	obx_hold_renew_later(get_database_oid(alter->dbname, true), InvalidOid,
						 is_ours_set(alter->setstmt));
}

/* What must happen once the command has run, when its transaction commits. */
static void
follow_up(Node *command)
{
	switch (nodeTag(command))
	{
		case T_TransactionStmt:
			/* the events of a prepared transaction rang nowhere yet */
			if (castNode(TransactionStmt, command)->kind == TRANS_STMT_COMMIT_PREPARED)
				obx_doorbell_arm_prepared();
			break;
		case T_CreateExtensionStmt:
			/* of any: CASCADE may have created ours */
			obx_doorbell_arm_configuration();
			break;
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
			obx_doorbell_arm_launcher();
			break;
		case T_AlterDatabaseSetStmt:
			renew_for_database(castNode(AlterDatabaseSetStmt, command));
			break;
		case T_AlterRoleSetStmt:
			renew_for_role(castNode(AlterRoleSetStmt, command));
			break;
		default:
			break;
	}
}

static void
process_utility(OBX_UTILITY_PARAMETERS)
{
	Node	   *command = pstmt->utilityStmt;

	prepare(command);
	obx_hook_next_utility(previous_process_utility, OBX_UTILITY_ARGUMENTS);
	follow_up(command);
}

/* What stands for subscriptions may have another owner now. */
static void
process_reassign(OBX_UTILITY_PARAMETERS)
{
	/* the statement may be gone afterwards */
	bool		is_reassign = IsA(pstmt->utilityStmt, ReassignOwnedStmt);

	obx_hook_next_utility(previous_reassign, OBX_UTILITY_ARGUMENTS);
	if (!is_reassign || !OidIsValid(obx_extension_find()))
		return;
	CommandCounterIncrement();
	obx_registered_type_follow_owners();
	if (obx_subscription_follow_owners(true))
		obx_doorbell_arm_configuration();
}

void
obx_utility_init_reassign(void)
{
	previous_reassign = ProcessUtility_hook;
	ProcessUtility_hook = process_reassign;
}

void
obx_utility_init(void)
{
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
