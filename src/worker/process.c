/*
 * Shared by all worker processes: their session, their waits, their errors.
 *
 * A worker is an ordinary session that reads no client.  It ends on SIGTERM
 * like one: at once, rolling back what it does.  It waits on its latch only,
 * so that every wait serves interrupts (a DROP DATABASE anywhere waits for
 * all processes to pass one).
 */
#include "postgres.h"

#include "base/backoff.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "libpq/pqsignal.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/compat.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "worker/process.h"
#include "worker/slot.h"

/* Waits after failures of a step. */
#define FIRST_RETRY OBX_MS(1000)
#define LONGEST_RETRY OBX_MS(30000)

void
obx_process_connect(Oid database, Oid owner, const char *application)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	if (OidIsValid(database))
		BackgroundWorkerInitializeConnectionByOid(database, owner, OBX_WORKER_CONNECT_FLAGS);
	else
		BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	SetConfigOption("application_name", application, PGC_USERSET, PGC_S_SESSION);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Sets what this version of PostgreSQL has. */
static void
override(const char *name, const char *value)
{
	if (GetConfigOption(name, true, false) != NULL)
		SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void
obx_process_override_settings(bool synchronous)
{
	override("role", "none");	/* ALTER ROLE ... SET role */
	override("default_transaction_isolation", "read committed");
	override("default_transaction_read_only", "off");
	override("default_transaction_deferrable", "off");
	override("session_replication_role", "origin");
	override("search_path", "pg_catalog, pg_temp");
	override("statement_timeout", "0");
	override("lock_timeout", "0");
	override("transaction_timeout", "0");
	override("idle_in_transaction_session_timeout", "0");
	override("idle_session_timeout", "0");
	override("row_security", "on");
	if (synchronous)
		override("synchronous_commit", "on");
}

void
obx_process_check(void)
{
	ResetLatch(MyLatch);

	/* a FATAL in the log for every stop of the server would say nothing */
	if (ProcDiePending && InterruptHoldoffCount == 0 && CritSectionCount == 0)
		proc_exit(obx_slot_own != NULL ? 0 : 1);
	QueryCancelPending = false; /* nothing runs that could be cancelled */
	CHECK_FOR_INTERRUPTS();

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
obx_process_wait(TimestampTz until)
{
	static uint32 wait_event = 0;
	TimestampTz now = obx_clock_now();
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		ms = 0;

	if (wait_event == 0)
		wait_event = obx_wait_event("PgOutboxIdle");

	if (until < DT_NOEND)
	{
		/* rounded up, or the last millisecond would be spent spinning */
		ms = until > now ? (long) Min((until - now + 999) / 1000, 3600 * 1000) : 0;
		events |= WL_TIMEOUT;
	}
	(void) WaitLatch(MyLatch, events, ms, wait_event);
}

void
obx_process_leave(int reason)
{
	obx_slot_set_exit(reason);
	proc_exit(0);
}

/*
 * Between the installation of another library and ALTER EXTENSION UPDATE, or
 * the other way round, the tables may not be those that we know.  Said once.
 */
static bool
is_current(void)
{
	static bool reported = false;
	char	   *version;

	if (obx_extension_is_current(&version))
	{
		reported = false;
		return true;
	}
	if (!reported && version != NULL)
		ereport(LOG,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_outbox pauses in database \"%s\": its extension has version %s, the library %s",
						get_database_name(MyDatabaseId), version, obx_library_version()),
				 errdetail("Events are emitted all the same."),
				 errhint("Run ALTER EXTENSION pg_outbox UPDATE, or restart the server if the library is the older one.")));
	reported = reported || version != NULL;
	return false;
}

ObxInstalled
obx_process_lock_extension(void)
{
	static Oid	served = InvalidOid;
	Oid			extension = obx_extension_find();

	if (!OidIsValid(extension))
		return OBX_INSTALLED_NOT;
	/* what a process remembers is true of one extension only */
	if (OidIsValid(served) && extension != served)
		return OBX_INSTALLED_ANOTHER;
	served = extension;

	if (!obx_lock_acquire(obx_lock_extension(extension), AccessShareLock, false))
		return OBX_INSTALLED_CHANGING;

	/* who dropped it may have committed between look and lock */
	AcceptInvalidationMessages();
	return obx_extension_find() == extension && is_current() ?
		OBX_INSTALLED : OBX_INSTALLED_CHANGING;
}

void
obx_process_recover(ObxFailures *failures, MemoryContext context)
{
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	HOLD_INTERRUPTS();
	if (failures->count == 0 || failures->sqlstate != error->sqlerrcode)
	{
		errcontext("pg_outbox: %s", failures->what);
		EmitErrorReport();
	}
	AbortCurrentTransaction();
	FlushErrorState();
	MemoryContextSwitchTo(context);
	RESUME_INTERRUPTS();

	failures->sqlstate = error->sqlerrcode;
	failures->count++;
	failures->retry_at = obx_clock_now() +
		obx_backoff_after(failures->count, FIRST_RETRY, LONGEST_RETRY);
	FreeErrorData(error);
}

bool
obx_process_run(void (*step) (void *), void *arg, ObxFailures *failures)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool succeeded = false;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		step(arg);
		CommitTransactionCommand();
		succeeded = true;
	}
	PG_CATCH();
	{
		obx_process_recover(failures, context);
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	if (!succeeded)
		return false;

	if (failures->count > 1)
		ereport(LOG,
				(errmsg("pg_outbox: %s: succeeded after %d failures",
						failures->what, failures->count)));
	failures->count = 0;
	failures->retry_at = 0;
	pgstat_report_stat(false);
	return true;
}
