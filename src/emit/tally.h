/*
 * Counting the events that the current transaction has written.
 */
#ifndef OBX_TALLY_H
#define OBX_TALLY_H

#include "catalog/tally.h"

/* The current subtransaction has written these; "xid" may be 0. */
extern void obx_tally_count(const ObxTally *written);

/* Before the transaction is committed or prepared, when all is written. */
extern void obx_tally_note(void);

/* When a subtransaction ends; its events become the parent's, unless aborted. */
extern void obx_tally_end_subtransaction(SubTransactionId subxact, SubTransactionId parent,
										 bool aborted);

/* When the transaction ends.  Raises no error. */
extern void obx_tally_forget(void);

#endif							/* OBX_TALLY_H */
