/*
 * The one utility hook: finds the watcher of a command by its tag.
 *
 * A command nobody watches costs the guards and one look into a table.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/hook.h"

#define MAX_GUARDS 4

/* More than there are tags; a watcher for a higher one fails to register. */
#define MAX_TAGS 1024

static ProcessUtility_hook_type previous_process_utility = NULL;

static ObxHookGuard guards[MAX_GUARDS];
static int	guard_count = 0;

/* NULL: nobody watches it */
static const ObxHookWatcher *watcher_of[MAX_TAGS];

static void
run_next(OBX_UTILITY_PARAMETERS)
{
	(previous_process_utility != NULL ? previous_process_utility :
	 standard_ProcessUtility) (OBX_UTILITY_ARGUMENTS);
}

static void
run_and_leave(const ObxHookWatcher *watcher, uint64 state, OBX_UTILITY_PARAMETERS)
{
	PG_TRY();
	{
		run_next(OBX_UTILITY_ARGUMENTS);
	}
	PG_CATCH();
	{
		watcher->leave(state);
		PG_RE_THROW();
	}
	PG_END_TRY();
	watcher->leave(state);
}

static void
run_watched(const ObxHookWatcher *watcher, OBX_UTILITY_PARAMETERS)
{
	Node	   *command = pstmt->utilityStmt;
	uint64		state = 0;

	if (watcher->replace != NULL && watcher->replace(command))
		return;
	if (watcher->before != NULL)
		watcher->before(command, &state);
	if (watcher->leave == NULL)
		run_next(OBX_UTILITY_ARGUMENTS);
	else
		run_and_leave(watcher, state, OBX_UTILITY_ARGUMENTS);
	if (watcher->after != NULL)
		watcher->after(command, state);
}

static void
process_utility(OBX_UTILITY_PARAMETERS)
{
	NodeTag		tag = nodeTag(pstmt->utilityStmt);
	const ObxHookWatcher *watcher = tag < MAX_TAGS ? watcher_of[tag] : NULL;

	for (int i = 0; i < guard_count; i++)
		guards[i] (pstmt, context);
	if (watcher == NULL)
		run_next(OBX_UTILITY_ARGUMENTS);
	else
		run_watched(watcher, OBX_UTILITY_ARGUMENTS);
}

void
obx_hook_guard(ObxHookGuard guard)
{
	if (guard_count == MAX_GUARDS)
		elog(ERROR, "too many guards of utility commands");
	guards[guard_count++] = guard;
}

void
obx_hook_watch(const ObxHookWatcher *watchers, int count)
{
	for (int i = 0; i < count; i++)
	{
		NodeTag		tag = watchers[i].command;

		if (tag >= MAX_TAGS || watcher_of[tag] != NULL)
			elog(ERROR, "cannot watch the command with node tag %d", (int) tag);
		watcher_of[tag] = &watchers[i];
	}
}

void
obx_hook_init(void)
{
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
