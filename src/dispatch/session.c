/*
 * The session that handlers run in.
 *
 * Settings are undone call by call (delivery/target.c); this is for what
 * outlives a transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/identity.h"
#include "base/settings.h"
#include "dispatch/session.h"

/* the search_path last asked for, NULL while it is the session's */
static char *wanted_path = NULL;

static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

void
obx_session_begin(void)
{
	if (wanted_path == NULL)
		return;
	SetConfigOption("search_path", wanted_path, PGC_USERSET, PGC_S_SESSION);
	pfree(wanted_path);
	wanted_path = NULL;
}

void
obx_session_prepare(const ObxSubscription *subscription)
{
	if (strcmp(namespace_search_path, subscription->search_path) != 0)
	{
		set_local("search_path", subscription->search_path);
		if (wanted_path != NULL)
			pfree(wanted_path);
		wanted_path = MemoryContextStrdup(TopMemoryContext, subscription->search_path);
	}

	obx_session_hide_settings();
}

void
obx_session_hide_settings(void)
{
	if (obx_correlation_id[0] != '\0')
		set_local("outbox.correlation_id", "");
	if (obx_traceparent[0] != '\0')
		set_local("outbox.traceparent", "");
	if (obx_headers[0] != '\0')
		set_local("outbox.headers", "");
}

void
obx_session_check_as_owner(const ObxSubscription *subscription,
						   void (*check) (const ObxSubscription *subscription))
{
	ObxIdentity former;

	obx_identity_assume_path(&former, subscription->owner, subscription->search_path);
	check(subscription);
	obx_identity_restore(&former);
}

void
obx_session_commit_later(void)
{
	if (synchronous_commit != SYNCHRONOUS_COMMIT_OFF)
		set_local("synchronous_commit", "off");
}

void
obx_session_clear(void)
{
	PortalHashTableDeleteAll();
	obx_session_abandon();

	/* dropping a table may read what its catalog rows keep out of line */
	PushActiveSnapshot(GetTransactionSnapshot());
	ResetTempTableNamespace();
	PopActiveSnapshot();
}

void
obx_session_abandon(void)
{
	DropAllPreparedStatements();
	LockReleaseSession(USER_LOCKMETHOD);
	ResetSequenceCaches();
}
