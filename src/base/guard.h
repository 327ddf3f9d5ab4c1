/*
 * Calls that may fail, in a subtransaction of their own.
 */
#ifndef OBX_GUARD_H
#define OBX_GUARD_H

#include "utils/elog.h"
#include "utils/palloc.h"

typedef void (*ObxGuarded) (void *arg);

/* Whose an error is. */
typedef enum ObxFault
{
	OBX_FAULT_CALL,				/* what was called failed */
	OBX_FAULT_LIMIT,			/* a limit (base/limit.h) that it began has
								 * run out */
	OBX_FAULT_SESSION			/* somebody cancelled what the session does,
								 * or it cannot go on */
} ObxFault;

/*
 * Calls function(arg) inside an internal subtransaction.  Returns NULL when it
 * returned, with its effects part of the surrounding transaction; else undoes
 * them and returns the error, copied into the memory context "result".  What
 * is the session's and not the call's is raised again: cancel means cancel.
 *
 * Restores CurrentMemoryContext and CurrentResourceOwner either way.  A FATAL
 * error passes through.
 */
extern ErrorData *obx_guard_call(ObxGuarded function, void *arg, MemoryContext result);

/*
 * The same for callers that have to clean up first: it returns every error,
 * and must be followed by ReThrowError() where *fault is OBX_FAULT_SESSION.
 */
extern ErrorData *obx_guard_catch(ObxGuarded function, void *arg, MemoryContext result,
								  ObxFault *fault);

#endif							/* OBX_GUARD_H */
