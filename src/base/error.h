/*
 * SQLSTATE codes of our own, class OB, which docs/reference.md explains; and
 * advice for errors of PostgreSQL's.
 */
#ifndef OBX_ERROR_H
#define OBX_ERROR_H

#include "utils/elog.h"
#include "utils/palloc.h"

#include "base/compat.h"

/* raised by a handler: call it again later, no attempt used up */
#define OBX_ERRCODE_RETRY_LATER MAKE_SQLSTATE('O', 'B', '0', '0', '1')

/* raised by a handler: a dead letter at once */
#define OBX_ERRCODE_DEAD_LETTER MAKE_SQLSTATE('O', 'B', '0', '0', '2')

/* an event's chain of causes is longer than outbox.max_depth */
#define OBX_ERRCODE_TOO_DEEP MAKE_SQLSTATE('O', 'B', '0', '0', '3')

/* a receipt that has run out or been acked */
#define OBX_ERRCODE_STALE_RECEIPT MAKE_SQLSTATE('O', 'B', '0', '0', '4')

/* an event's data are not what the contract of its type says */
#define OBX_ERRCODE_BREACH MAKE_SQLSTATE('O', 'B', '0', '0', '5')

/*
 * For PG_CATCH, with the context that the caller was in before: the error goes
 * on, and if it comes from a mistake in what the user gave, with this detail
 * and this hint where it has none.
 */
pg_noreturn extern void obx_error_advise(MemoryContext context, const char *detail,
										 const char *hint);

#endif							/* OBX_ERROR_H */
