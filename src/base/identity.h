/*
 * The rights that code runs with.
 */
#ifndef OBX_IDENTITY_H
#define OBX_IDENTITY_H

/* What to go back to; on the caller's stack, it needs no freeing. */
typedef struct ObxIdentity
{
	Oid			user;
	int			security;
	int			nest_level;
	bool		is_assumed;
} ObxIdentity;

extern void obx_identity_init(void);

/*
 * Become the role, in a security-restricted operation, under a search_path of
 * ours.  Whatever happens until obx_identity_restore() happens as this role:
 * code that it planted gets no other rights, and leaves nothing behind that
 * could run later with other rights: commands that make objects are refused.
 */
extern void obx_identity_assume(ObxIdentity *former, Oid role);

/*
 * The same for text that the role wrote, under the search_path it was written
 * for, as obx_identity_path() makes it.
 */
extern void obx_identity_assume_path(ObxIdentity *former, Oid role, const char *path);

/*
 * The path with temporary objects last: they are those of the session, which
 * may be anybody's.
 */
extern char *obx_identity_path(const char *path);

/*
 * The search_path that the role has in this database when it logs in, as the
 * settings of roles and of the database say; else the server's.
 */
extern char *obx_identity_login_path(Oid role);

/*
 * The same where nobody knows whose session it is: without a setting it is
 * PostgreSQL's default, since that of a session is its user's to choose.
 */
extern char *obx_identity_role_path(Oid role);

/*
 * Go back, and undo all settings that changed meanwhile.  Where an error is
 * thrown instead, the end of its (sub)transaction does the same.
 */
extern void obx_identity_restore(const ObxIdentity *former);

/*
 * Refuse every change of the role until the transaction has ended, with all
 * that it deferred to its end: after SET ROLE or SET SESSION AUTHORIZATION,
 * other people's code could go back to the role that has logged in.
 */
extern void obx_identity_pin(void);

#endif
