/*
 * Hooks that stand in a chain: what a hook of ours calls to go on.
 */
#ifndef OBX_HOOK_H
#define OBX_HOOK_H

#include "tcop/utility.h"

#include "base/compat.h"

/* Runs a utility command by the hook that was set before ours; NULL for none. */
static inline void
obx_hook_next_utility(ProcessUtility_hook_type previous, OBX_UTILITY_PARAMETERS)
{
	(previous != NULL ? previous : standard_ProcessUtility) (OBX_UTILITY_ARGUMENTS);
}

#endif							/* OBX_HOOK_H */
