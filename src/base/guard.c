/*
 * Calls that may fail, in a subtransaction of their own.
 *
 * The subtransaction is what makes the error survivable: it undoes locks,
 * snapshots, SPI connections and everything else that the call left open.
 * A cancel is not the call's error, unless its own time limit sent it: a
 * statement_timeout, or somebody with pg_cancel_backend(), means the statement
 * around, which must end.
 *
 * Must not know what is called, nor decide anything about errors that are the
 * call's.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "base/compat.h"
#include "base/guard.h"
#include "base/limit.h"

/* What every message of a cancel begins with, before it is translated. */
#define CANCELING "canceling "
#define BY_REQUEST "canceling statement due to user request"

/*
 * Is it a cancel, and not an error that uses its code?  Where a client waits,
 * every error of that code ends its statement: some languages wrap the cancel in an
 * error of their own.  A worker would try for ever what raises it itself.
 */
static bool
is_cancel(const ErrorData *error)
{
	if (error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		return false;
	return !obx_is_background_worker() ||
		(error->message_id != NULL &&
		 strncmp(error->message_id, CANCELING, strlen(CANCELING)) == 0);
}

/* A limit cancels by request; a statement_timeout may have come before it. */
static ObxFault
judge_fault(const ErrorData *error, bool expired)
{
	if (expired && (error->sqlerrcode != ERRCODE_QUERY_CANCELED ||
					error->message_id == NULL ||
					strncmp(error->message_id, CANCELING, strlen(CANCELING)) != 0 ||
					strcmp(error->message_id, BY_REQUEST) == 0))
		return OBX_FAULT_LIMIT;
	switch (error->sqlerrcode)
	{
		case ERRCODE_ADMIN_SHUTDOWN:
		case ERRCODE_CRASH_SHUTDOWN:
		case ERRCODE_OUT_OF_MEMORY:
			return OBX_FAULT_SESSION;
		default:
			return is_cancel(error) ? OBX_FAULT_SESSION : OBX_FAULT_CALL;
	}
}

ErrorData *
obx_guard_catch(ObxGuarded function, void *arg, MemoryContext result, ObxFault *fault)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;
	ObxLimit	limit;

	obx_limit_save(&limit);

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);

	PG_TRY();
	{
		function(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(result);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		*fault = judge_fault(error, obx_limit_restore(&limit));
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

ErrorData *
obx_guard_call(ObxGuarded function, void *arg, MemoryContext result)
{
	ObxFault	fault;
	ErrorData  *error = obx_guard_catch(function, arg, result, &fault);

	if (error != NULL && fault == OBX_FAULT_SESSION)
		ReThrowError(error);
	return error;
}
