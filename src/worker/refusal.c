/*
 * Refusals: owners for which no worker can connect.
 *
 * Workers connect as the owner of subscriptions.  One that cannot (NOLOGIN, no
 * CONNECT, a limit of connections) is remembered by the sequencer of its
 * database alone, in memory of its own, until it is tried again; it takes up
 * nothing that others share.  Entries go with the owner's last subscription, so
 * there are no more of them than owners.
 *
 * The session that reads outbox.worker finds most of it in the catalogs; the
 * time since when, and reasons that only an attempt can show, stand in a
 * shared table as far as they fit (slot.h).
 */
#include "postgres.h"

#include "base/backoff.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/hsearch.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "worker/refusal.h"
#include "worker/slot.h"

#define FIRST_DELAY USECS_PER_SEC
#define LONGEST_DELAY (30 * USECS_PER_SEC)

typedef struct Refusal
{
	Oid			owner;			/* hash key */
	int			failures;		/* in a row */
	TimestampTz retry_at;
} Refusal;

static HTAB *refusals = NULL;

const char *
obx_refusal_find_obstacle(Oid owner)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(owner));
	bool		may_login;

	if (!HeapTupleIsValid(tuple))
		return "The role does not exist.";
	may_login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);

	if (OBX_WORKER_NEEDS_LOGIN && !may_login)
		return "The role is not permitted to log in.";
	if (obx_object_aclcheck(DatabaseRelationId, MyDatabaseId, owner, ACL_CONNECT) != ACLCHECK_OK)
		return "The role does not have CONNECT privilege on the database.";
	return NULL;
}

int
obx_refusal_note(Oid owner, TimestampTz now)
{
	Refusal    *refusal;
	bool		found;

	if (refusals == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid),.entrysize = sizeof(Refusal),.hcxt = TopMemoryContext};

		refusals = hash_create("pg_outbox refusals", 64, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	refusal = hash_search(refusals, &owner, HASH_ENTER, &found);
	if (!found)
		refusal->failures = 0;
	refusal->failures++;
	refusal->retry_at = now + obx_backoff_after(refusal->failures, FIRST_DELAY, LONGEST_DELAY);
	obx_slot_show_refused(owner, now);
	return refusal->failures;
}

TimestampTz
obx_refusal_until(Oid owner)
{
	Refusal    *refusal = refusals == NULL ? NULL :
	hash_search(refusals, &owner, HASH_FIND, NULL);

	return refusal != NULL ? refusal->retry_at : 0;
}

void
obx_refusal_forget(Oid owner)
{
	if (refusals == NULL || hash_search(refusals, &owner, HASH_FIND, NULL) == NULL)
		return;
	(void) hash_search(refusals, &owner, HASH_REMOVE, NULL);
	obx_slot_show_refused(owner, 0);
}

static int
compare_oids(const void *left, const void *right)
{
	Oid			a = *(const Oid *) left;
	Oid			b = *(const Oid *) right;

	return a < b ? -1 : a > b;
}

void
obx_refusal_keep(const Oid *owners, int count, bool again)
{
	HASH_SEQ_STATUS status;
	Refusal    *refusal;

	if (refusals == NULL)
		return;
	hash_seq_init(&status, refusals);
	while ((refusal = hash_seq_search(&status)) != NULL)
	{
		if (bsearch(&refusal->owner, owners, count, sizeof(Oid), compare_oids) == NULL)
			obx_refusal_forget(refusal->owner);
		else if (again)
			refusal->retry_at = 0;
	}
}
