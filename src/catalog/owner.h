/*
 * The owner of a subscription or a registered type, as PostgreSQL knows it: a
 * shell type, which stands for it, has that owner.
 */
#ifndef OBX_OWNER_H
#define OBX_OWNER_H

typedef enum ObxOwned
{
	OBX_OWNED_SUBSCRIPTION,
	OBX_OWNED_EVENT_TYPE
} ObxOwned;

/*
 * Makes the role the owner of the type that stands for the named object, and
 * creates that type if it is missing.  Does nothing for a role that does not
 * exist.
 */
extern void obx_owner_put(ObxOwned kind, const char *owned, Oid role);

/* The same for one that a restore has brought. */
extern void obx_owner_restore(ObxOwned kind, const char *owned, Oid role);

/* Drops the type that stands for it. */
extern void obx_owner_drop(ObxOwned kind, const char *owned);

/* The role that it belongs to, InvalidOid if nothing stands for it. */
extern Oid	obx_owner_find(ObxOwned kind, const char *owned);

/* Does a type of that name, in our schema, stand for it? */
extern bool obx_owner_is(const char *type, ObxOwned kind, const char *owned);

#endif							/* OBX_OWNER_H */
