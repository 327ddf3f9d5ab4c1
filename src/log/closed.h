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

#endif							/* OBX_CLOSED_H */
