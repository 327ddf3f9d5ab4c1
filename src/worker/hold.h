/*
 * Holds: keeping workers out of a database for the rest of a transaction.
 */
#ifndef OBX_HOLD_H
#define OBX_HOLD_H

/* Registers the transaction callback. */
extern void obx_hold_init(void);

/*
 * Has all workers of the database leave, waits until they are gone (some
 * seconds at most), and keeps new ones away until the transaction ends.
 */
extern void obx_hold_take(Oid database);

/*
 * When the transaction commits, workers of that database and of that owner
 * (InvalidOid: of any) are replaced by new ones, which read their settings
 * again; sequencers only if asked for.
 */
extern void obx_hold_renew_later(Oid database, Oid owner, bool sequencers);

#endif							/* OBX_HOLD_H */
