/*
 * Whose rights code runs with.
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

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "base/identity.h"

/* pg_temp is named last, or it would be searched first. */
#define OUR_PATH "pg_catalog, pg_temp"

void
obx_identity_assume(ObxIdentity *former, Oid role)
{
	obx_identity_assume_path(former, role, OUR_PATH);
}

void
obx_identity_assume_path(ObxIdentity *former, Oid role, const char *path)
{
	GetUserIdAndSecContext(&former->user, &former->security);
	SetUserIdAndSecContext(role, former->security | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	former->nest_level = NewGUCNestLevel();
	if (strcmp(namespace_search_path, path) != 0)
		(void) set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

void
obx_identity_restore(const ObxIdentity *former)
{
	AtEOXact_GUC(false, former->nest_level);
	SetUserIdAndSecContext(former->user, former->security);
}

/* ---- other people's code in a session that knows more roles ---- */

static bool holding = false;

/*
 * XactCallback.  What a transaction defers to its end (triggers, cursors WITH
 * HOLD) has run by now.  An abort goes back to what the transaction began with
 * by itself.
 */
static void
release_at_end(XactEvent event, void *arg)
{
	if (!holding || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT))
		return;
	holding = false;
	if (event == XACT_EVENT_COMMIT)
		SetUserIdAndSecContext(GetUserId(), 0);
}

void
obx_identity_hold(void)
{
	static bool registered = false;

	if (GetSessionUserId() == GetUserId() && GetAuthenticatedUserId() == GetUserId())
		return;
	if (!registered)
	{
		RegisterXactCallback(release_at_end, NULL);
		registered = true;
	}
	holding = true;
	SetUserIdAndSecContext(GetUserId(), SECURITY_LOCAL_USERID_CHANGE);
}
