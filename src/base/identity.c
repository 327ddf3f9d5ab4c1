/*
 * The rights that code runs with.
 *
 * The one rule: code that a role wrote or can plant (functions, casts, CHECKs
 * of domains, operators, defaults, event triggers, objects in its search_path)
 * runs as that role or as the role that knowingly called it, and never as the
 * owner of the extension, a producer, an operator or a member.  This is the only
 * file that changes the current user, and tools/lint keeps it so.
 *
 * A change of the user alone is no protection: the code could leave behind a
 * deferred trigger, a cursor WITH HOLD or a temporary object that runs after
 * the change back.  SECURITY_RESTRICTED_OPERATION refuses all of these, and
 * that is why there is no way here to become another role without it.
 *
 * Must not know what is run.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_db_role_setting.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/varlena.h"

#include "base/compat.h"
#include "base/hook.h"
#include "base/identity.h"

/*
 * Set while another role's code may be running.  After an error it may stay set
 * until the transaction ends: it counts within a security-restricted operation
 * only.
 */
static bool is_assumed = false;

/* pg_temp is named last, or it would be searched first. */
#define OUR_PATH "pg_catalog, pg_temp"
#define TEMPORARY "pg_temp"

/* All names with it are temporary schemas', also pg_temp_3 and PG_TEMP. */
static bool
ends_with_temporary(const char *path)
{
	int			length = strlen(path) - strlen(TEMPORARY);

	if (length < 0 || strcmp(path + length, TEMPORARY) != 0)
		return false;
	for (int i = 0; i < length; i++)
		if (pg_strncasecmp(path + i, TEMPORARY, strlen(TEMPORARY)) == 0)
			return false;
	return length == 0 || path[length - 1] == ' ' || path[length - 1] == ',';
}

char *
obx_identity_path(const char *path)
{
	StringInfoData result;
	List	   *schemas;
	ListCell   *lc;

	if (ends_with_temporary(path))
		return pstrdup(path);
	if (!SplitIdentifierString(pstrdup(path), ',', &schemas))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("invalid search_path: \"%s\"", path),
				 errdetail("List syntax is invalid."),
				 errhint("Set a list of schemas, separated by commas.")));
	initStringInfo(&result);
	foreach(lc, schemas)
		if (strncmp(lfirst(lc), TEMPORARY, strlen(TEMPORARY)) != 0)
		appendStringInfo(&result, "%s, ", quote_identifier(lfirst(lc)));
	appendStringInfoString(&result, TEMPORARY);
	return result.data;
}

/* ---- a role's own search_path ---- */

/* What ALTER ROLE or ALTER DATABASE has set it to, NULL for nothing. */
static char *
find_setting(Relation settings, Oid database, Oid role)
{
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *path = NULL;

	ScanKeyInit(&keys[0], Anum_pg_db_role_setting_setdatabase, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(database));
	ScanKeyInit(&keys[1], Anum_pg_db_role_setting_setrole, BTEqualStrategyNumber,
				F_OIDEQ, ObjectIdGetDatum(role));
	scan = systable_beginscan(settings, DbRoleSettingDatidRolidIndexId, true, NULL, 2, keys);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		array = heap_getattr(tuple, Anum_pg_db_role_setting_setconfig,
										 RelationGetDescr(settings), &isnull);
		Datum	   *elements;
		int			count = 0;

		if (!isnull)
			deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT,
							  &elements, NULL, &count);
		for (int i = 0; i < count; i++)
		{
			char	   *name;
			char	   *value;

			ParseLongOption(TextDatumGetCString(elements[i]), &name, &value);
			if (value != NULL && strcmp(name, "search_path") == 0)
				path = value;
		}
	}
	systable_endscan(scan);
	return path;
}

static char *
find_login_path(Oid role)
{
	Relation	settings = table_open(DbRoleSettingRelationId, AccessShareLock);
	char	   *path = find_setting(settings, MyDatabaseId, role);

	if (path == NULL)
		path = find_setting(settings, InvalidOid, role);
	if (path == NULL)
		path = find_setting(settings, MyDatabaseId, InvalidOid);
	if (path == NULL)
		path = find_setting(settings, InvalidOid, InvalidOid);
	table_close(settings, AccessShareLock);
	return path;
}

/* Without a setting it is the server's, which is this session's if that has none. */
char *
obx_identity_login_path(Oid role)
{
	char	   *path = find_login_path(role);

	if (path != NULL)
		return path;
	if (find_login_path(GetSessionUserId()) == NULL)
		return pstrdup(GetConfigOptionResetString("search_path"));
	return pstrdup("\"$user\", public");
}

char *
obx_identity_role_path(Oid role)
{
	char	   *path = find_login_path(role);

	return path != NULL ? path : pstrdup("\"$user\", public");
}

/* ---- becoming another role ---- */

void
obx_identity_assume(ObxIdentity *former, Oid role)
{
	obx_identity_assume_path(former, role, OUR_PATH);
}

void
obx_identity_assume_path(ObxIdentity *former, Oid role, const char *path)
{
	if (!ends_with_temporary(path))
		path = obx_identity_path(path);
	GetUserIdAndSecContext(&former->user, &former->security);
	SetUserIdAndSecContext(role, former->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	former->nest_level = NewGUCNestLevel();
	former->is_assumed = is_assumed;
	is_assumed = true;
	if (strcmp(namespace_search_path, path) != 0)
		(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

void
obx_identity_restore(const ObxIdentity *former)
{
	is_assumed = former->is_assumed;
	AtEOXact_GUC(false, former->nest_level);
	SetUserIdAndSecContext(former->user, former->security);
}

/* ---- other people's code in a session that knows more roles ---- */

static bool pinned = false;

/*
 * XactCallback.  What a transaction defers to its end (triggers, cursors WITH
 * HOLD) has run by now.  An abort goes back to what the transaction began with
 * by itself.
 */
static void
unpin_at_end(XactEvent event, void *arg)
{
	if (!pinned || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	pinned = false;
	if (event == XACT_EVENT_COMMIT)
		SetUserIdAndSecContext(GetUserId(), 0);
}

void
obx_identity_pin(void)
{
	static bool registered = false;

	if (GetSessionUserId() == GetUserId() && GetAuthenticatedUserId() == GetUserId())
		return;
	if (!registered)
	{
		RegisterXactCallback(unpin_at_end, NULL);
		registered = true;
	}
	pinned = true;
	SetUserIdAndSecContext(GetUserId(), SECURITY_LOCAL_USERID_CHANGE);
}

/* ---- what such code may not do ---- */

/*
 * A security-restricted operation refuses temporary tables, but no other
 * temporary objects where the session has some already.  A type among them
 * would be found before PostgreSQL's own, in a session of somebody else.  Our
 * own commands (base/command.c) are parts of something larger.
 */
static void
refuse_ddl(const PlannedStmt *statement, ProcessUtilityContext context)
{
	if (is_assumed && InSecurityRestrictedOperation() &&
		context != PROCESS_UTILITY_SUBCOMMAND &&
		GetCommandLogLevel(statement->utilityStmt) == LOGSTMT_DDL)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute %s within code that runs as another role",
						GetCommandTagName(CreateCommandTag(statement->utilityStmt))),
				 errdetail("Filters, contracts and the like run in sessions of others, and leave nothing there."),
				 errhint("Let a handler do it.")));
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		is_assumed = false;
}

void
obx_identity_init(void)
{
	obx_hook_guard(refuse_ddl);
	RegisterXactCallback(end_transaction, NULL);
}
