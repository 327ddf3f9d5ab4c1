/*
 * Whose a subscription is, as PostgreSQL knows it.
 */
#ifndef OBX_OWNER_H
#define OBX_OWNER_H

/*
 * What stands for the subscription of that name belongs to the role from now
 * on; it is made if need be.  Nothing is done for a role that does not exist.
 */
extern void obx_owner_put(const char *subscription, Oid role);

/* The same for one that a restore has brought. */
extern void obx_owner_settle(const char *subscription, Oid role);

/* Nothing stands for the subscription any more. */
extern void obx_owner_drop(const char *subscription);

/* The role that it belongs to, InvalidOid if nothing stands for it. */
extern Oid	obx_owner_find(const char *subscription);

/* Does a type of that name, in our schema, stand for the subscription? */
extern bool obx_owner_is(const char *type, const char *subscription);

#endif							/* OBX_OWNER_H */
