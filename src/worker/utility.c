/*
 * Utility commands that concern the workers.
 *
 * Before a command that needs a database for itself, or that drops or replaces
 * the extension, our workers leave that database.  A command that may change
 * what the workers do rings at commit.
 *
 * Workers leave only for a user who may run the command: the functions here look
 * at the rights first, and leave the error message to the command.
 */
#include "postgres.h"

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
#include "base/hook.h"
#include "catalog/names.h"
#include "catalog/registered_type.h"
#include "catalog/subscription.h"
#include "worker/hold.h"
#include "worker/slot.h"
#include "worker/utility.h"

static void
hold_database(const char *name)
{
	Oid			database = name != NULL ? get_database_oid(name, true) : InvalidOid;

	if (OidIsValid(database) && obx_database_ownercheck(database, GetUserId()))
		obx_hold_take(database);
}

/*
 * For commands on the extension in this database.  In a dispatcher the command
 * is a handler's.  It would wait for its own process; and after DROP EXTENSION
 * no table could record the event as handled, so it would be redelivered
 * forever.
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

/* ---- before the command ---- */

static void
hold_dropped(Node *command, uint64 *state)
{
	hold_database(castNode(DropdbStmt, command)->dbname);
}

static void
hold_template(Node *command, uint64 *state)
{
	hold_database(find_option(castNode(CreatedbStmt, command)->options, "template"));
}

static void
hold_moved(Node *command, uint64 *state)
{
	if (find_option(castNode(AlterDatabaseStmt, command)->options, "tablespace"))
		hold_database(castNode(AlterDatabaseStmt, command)->dbname);
}

static void
hold_renamed(Node *command, uint64 *state)
{
	if (castNode(RenameStmt, command)->renameType == OBJECT_DATABASE)
		hold_database(castNode(RenameStmt, command)->subname);
}

static void
hold_for_drop(Node *command, uint64 *state)
{
	if (is_ours_dropped(castNode(DropStmt, command)))
		hold_own_database();
}

static void
hold_for_drop_owned(Node *command, uint64 *state)
{
	if (is_ours_dropped_with_owner(castNode(DropOwnedStmt, command)))
		hold_own_database();
}

static void
hold_for_update(Node *command, uint64 *state)
{
	if (strcmp(castNode(AlterExtensionStmt, command)->extname, OBX_EXTENSION_NAME) == 0)
		hold_own_database();
}

static void
note_prepared(Node *command, uint64 *is_prepared)
{
	*is_prepared = castNode(TransactionStmt, command)->kind == TRANS_STMT_COMMIT_PREPARED;
}

/* ---- after it: these act when the transaction commits ---- */

/* The events of a prepared transaction have not rung yet. */
static void
ring_prepared(Node *command, uint64 is_prepared)
{
	if (is_prepared)
		obx_doorbell_arm_prepared();
}

/* After CREATE EXTENSION of any extension: CASCADE may have created ours. */
static void
ring_configuration(Node *command, uint64 state)
{
	obx_doorbell_arm_configuration();
}

static void
ring_launcher(Node *command, uint64 state)
{
	obx_doorbell_arm_launcher();
}

/* Whether a SET concerns the sequencer, rather than handlers only. */
static bool
is_ours_set(const VariableSetStmt * set)
{
	return set->name == NULL || strncmp(set->name, "outbox.", strlen("outbox.")) == 0;
}

static void
renew_for_role(Node *command, uint64 state)
{
	AlterRoleSetStmt *alter = castNode(AlterRoleSetStmt, command);
	Oid			database = alter->database ? get_database_oid(alter->database, true) : InvalidOid;
	Oid			role = alter->role ? get_rolespec_oid(alter->role, true) : InvalidOid;

	obx_hold_renew_later(database, role,
						 (role == InvalidOid || role == BOOTSTRAP_SUPERUSERID) &&
						 is_ours_set(alter->setstmt));
}

static void
renew_for_database(Node *command, uint64 state)
{
	AlterDatabaseSetStmt *alter = castNode(AlterDatabaseSetStmt, command);

	obx_hold_renew_later(get_database_oid(alter->dbname, true), InvalidOid,
						 is_ours_set(alter->setstmt));
}

/* Types that stand for subscriptions may have another owner now. */
static void
follow_owners(Node *command, uint64 state)
{
	if (!OidIsValid(obx_extension_find()))
		return;
	CommandCounterIncrement();
	obx_registered_type_follow_owners();
	if (obx_subscription_follow_owners(true))
		obx_doorbell_arm_configuration();
}

/* ---- the commands ---- */

static const ObxHookWatcher watchers[] = {
	{.command = T_DropdbStmt,.before = hold_dropped,.after = ring_launcher},
	{.command = T_CreatedbStmt,.before = hold_template,.after = ring_launcher},
	{.command = T_AlterDatabaseStmt,.before = hold_moved,.after = ring_launcher},
	{.command = T_RenameStmt,.before = hold_renamed},
	{.command = T_DropStmt,.before = hold_for_drop},
	{.command = T_DropOwnedStmt,.before = hold_for_drop_owned},
	{.command = T_AlterExtensionStmt,.before = hold_for_update},
	{.command = T_CreateExtensionStmt,.after = ring_configuration},
	{.command = T_AlterDatabaseSetStmt,.after = renew_for_database},
	{.command = T_AlterRoleSetStmt,.after = renew_for_role},
	{.command = T_TransactionStmt,.before = note_prepared,.after = ring_prepared},
};

static const ObxHookWatcher reassign_watcher = {
	.command = T_ReassignOwnedStmt,
	.after = follow_owners,
};

void
obx_utility_init_reassign(void)
{
	obx_hook_watch(&reassign_watcher, 1);
}

void
obx_utility_init(void)
{
	obx_hook_watch(watchers, lengthof(watchers));
}
