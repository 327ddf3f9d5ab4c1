/*
 * Telling those who LISTEN that the log has grown.
 *
 * The server has one lock for all transactions that notify, which they hold
 * until they have committed: over the flush of their WAL, and over the wait
 * for a synchronous standby.  So a producer must not notify, and the process
 * that notifies here waits neither for the lock nor for the disk.  The events
 * that a notification announces are on disk already; a crash ends the sessions
 * that would have heard it.
 *
 * Must not know who listens.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/async.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "base/compat.h"
#include "base/listener.h"
#include "catalog/locks.h"
#include "sequencer/announcement.h"

bool
obx_announcement_send(int64 head, bool wait)
{
	char		payload[MAXINT8LEN + 1];

	if (!obx_lock_acquire(obx_lock_notify(), AccessExclusiveLock, wait))
		return false;
	if (synchronous_commit != SYNCHRONOUS_COMMIT_OFF)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_LOCAL, true, 0, false);
	pg_lltoa(head, payload);
	Async_Notify(OBX_HEAD_CHANNEL, payload);
	return true;
}
