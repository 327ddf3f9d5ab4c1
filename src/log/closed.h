/*
 * Tables of the extension on which no other role has rights.
 */
#ifndef OBX_CLOSED_H
#define OBX_CLOSED_H

/*
 * Revokes all rights on the table and its row type, except the owner's.  The
 * caller has assumed the owner's identity.  Cheap if there is nothing to
 * revoke.
 */
extern void obx_closed_ensure(Oid relid);

/*
 * Revokes the rights of PUBLIC and of all other roles on the row types of the
 * extension's tables, except outbox.event, after a restore or an upgrade.  As
 * above.
 */
extern void obx_closed_ensure_types(void);

#endif							/* OBX_CLOSED_H */
