/*
 * Calls that may fail, in a subtransaction of their own.
 *
 * The subtransaction is what makes the error survivable: it undoes locks,
 * snapshots, SPI connections and everything else that the call left open.
 * Must not know what is called, nor decide anything about the error.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/resowner.h"

#include "base/guard.h"

ErrorData *
obx_guard_call(ObxGuarded function, void *arg, MemoryContext result)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

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
	}
	PG_END_TRY();

	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}
