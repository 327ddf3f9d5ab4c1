/*
 * Calls that may fail, in a subtransaction of their own.
 */
#ifndef OBX_GUARD_H
#define OBX_GUARD_H

#include "utils/elog.h"
#include "utils/palloc.h"

typedef void (*ObxGuarded) (void *arg);

/*
 * Calls function(arg) inside an internal subtransaction.  Returns NULL when it
 * returned, with its effects part of the surrounding transaction; else undoes
 * them and returns the error, copied into the memory context "result".
 *
 * Restores CurrentMemoryContext and CurrentResourceOwner either way.  A FATAL
 * error passes through.
 */
extern ErrorData *obx_guard_call(ObxGuarded function, void *arg, MemoryContext result);

#endif							/* OBX_GUARD_H */
