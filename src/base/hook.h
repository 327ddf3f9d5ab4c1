/*
 * The one utility hook.
 *
 * A room registers a watcher for each command it must see, once, when the
 * library is loaded.  A command has at most one watcher, so that no order among
 * rooms needs to be known.  The order for one command is this:
 *
 *	1. every guard, in the order of registration; its error refuses the command
 *	2. "replace" of the watcher; if it returns true, nothing else happens
 *	3. "before"
 *	4. the command itself, with the hooks of other extensions around it
 *	5. "leave", also after an error
 *	6. "after", only after success
 *
 * Must not know what is watched, or why.
 */
#ifndef OBX_HOOK_H
#define OBX_HOOK_H

#include "nodes/plannodes.h"
#include "tcop/utility.h"

/*
 * What to call around one kind of command; each function may be NULL.  "state"
 * is 0 at first, and keeps what "before" finds for the functions that follow;
 * commands nest, so a static variable could not.
 */
typedef struct ObxHookWatcher
{
	NodeTag		command;

	/* carries the command out instead of PostgreSQL; returns whether it did */
	bool		(*replace) (Node *command);
	void		(*before) (Node *command, uint64 *state);
	/* must not fail */
	void		(*leave) (uint64 state);

	/*
	 * "command" may be freed memory after a TransactionStmt, and after any
	 * command that can commit: there, read it in "before".
	 */
	void		(*after) (Node *command, uint64 state);
} ObxHookWatcher;

/* Runs before every utility command: must be cheap, and changes nothing. */
typedef void (*ObxHookGuard) (const PlannedStmt *statement, ProcessUtilityContext context);

extern void obx_hook_guard(ObxHookGuard guard);

/* "watchers" must live as long as the process. */
extern void obx_hook_watch(const ObxHookWatcher *watchers, int count);

extern void obx_hook_init(void);

#endif							/* OBX_HOOK_H */
