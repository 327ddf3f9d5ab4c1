/*
 * Refusals: owners for which no worker can connect.
 */
#ifndef OBX_REFUSAL_H
#define OBX_REFUSAL_H

#include "datatype/timestamp.h"

/*
 * Why a worker of that owner would be turned away from our database, or NULL.
 * In a transaction.
 */
extern const char *obx_refusal_find_obstacle(Oid owner);

/* Sequencer: one more try was in vain; returns how many in a row. */
extern int	obx_refusal_note(Oid owner, TimestampTz now);

/*
 * For the sequencer: the time before which no worker should be started for the
 * owner; 0 for none.
 */
extern TimestampTz obx_refusal_until(Oid owner);

/* Sequencer: the owner got in. */
extern void obx_refusal_forget(Oid owner);

/* Sequencer: forgets all owners but those, which are sorted; "again": tries them now. */
extern void obx_refusal_keep(const Oid *owners, int count, bool again);

#endif							/* OBX_REFUSAL_H */
