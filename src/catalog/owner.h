/*
 * Whose a subscription or a registered type is, as PostgreSQL knows it.
 */
#ifndef OBX_OWNER_H
#define OBX_OWNER_H

typedef enum ObxOwned
{
	OBX_OWNED_SUBSCRIPTION,
	OBX_OWNED_EVENT_TYPE
} ObxOwned;

/*
 * What stands for that of the name belongs to the role from now on; it is made
 * if need be.  Nothing is done for a role that does not exist.
 */
extern void obx_owner_put(ObxOwned kind, const char *owned, Oid role);

/* The same for one that a restore has brought. */
extern void obx_owner_restore(ObxOwned kind, const char *owned, Oid role);

/* Nothing stands for it any more. */
extern void obx_owner_drop(ObxOwned kind, const char *owned);

/* The role that it belongs to, InvalidOid if nothing stands for it. */
extern Oid	obx_owner_find(ObxOwned kind, const char *owned);

/* Does a type of that name, in our schema, stand for it? */
extern bool obx_owner_is(const char *type, ObxOwned kind, const char *owned);

#endif							/* OBX_OWNER_H */
