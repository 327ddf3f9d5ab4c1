/*
 * Tables of ours that nobody else has rights on.
 */
#ifndef OBX_CLOSED_H
#define OBX_CLOSED_H

/*
 * Revokes what anybody but its owner may do with the table and its row type.
 * The caller has assumed the owner's identity.  Cheap where there is nothing
 * to revoke.
 */
extern void obx_closed_ensure(Oid relid);

/*
 * Revokes what PUBLIC, or anybody else, may do with the row types of all our
 * tables but outbox.event, after a restore or an upgrade.  As above.
 */
extern void obx_closed_ensure_types(void);

#endif							/* OBX_CLOSED_H */
