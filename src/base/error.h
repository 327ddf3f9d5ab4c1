/*
 * SQLSTATE codes of our own, class OB.  docs/reference.md explains each.
 */
#ifndef OBX_ERROR_H
#define OBX_ERROR_H

#include "utils/elog.h"

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

#endif							/* OBX_ERROR_H */
