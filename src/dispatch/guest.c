/*
 * Handlers as guests, in a session that another role uses for other work, too.
 *
 * Objects that a handler leaves in a session outlive its transaction, or even
 * a rollback.  Code or names of its owner must not stay there for the caller
 * of outbox.run(): a temporary table or a prepared statement would hide the
 * object that the caller means by the name.  The caller's own objects stay.
 *
 * New objects are recognised by their transaction if possible (cursors,
 * temporary objects: a handler may have replaced one), and otherwise by a list
 * made before the first call.
 *
 * Must not know passes or batches.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/hook.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_namespace.h"
#include "commands/async.h"
#include "commands/prepare.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "base/compat.h"
#include "base/guard.h"
#include "base/table.h"
#include "dispatch/guest.h"

/* A prepared statement; one of the same name made later has another time or plan. */
typedef struct Prepared
{
	char	   *name;
	TimestampTz time;
	const		CachedPlanSource *plan;
} Prepared;

typedef struct Lock
{
	LOCKTAG		tag;
	LOCKMASK	modes;
} Lock;

/* What the session had; NULL while handlers are no guests. */
typedef struct Host
{
	List	   *prepared;		/* of Prepared */
	List	   *locks;			/* of Lock */
	List	   *channels;		/* of char * */
	bool		sequences;		/* it has used some */
} Host;

static Host *host = NULL;

/* ---- what there is ---- */

static List *
list_prepared(void)
{
	return obx_table_list_strings("SELECT name FROM pg_catalog.pg_prepared_statement()");
}

/* The advisory locks of this session. */
static List *
list_locks(void)
{
	LockData   *data = GetLockStatusData();
	List	   *locks = NIL;

	for (int i = 0; i < data->nelements; i++)
	{
		const		LockInstanceData *instance = &data->locks[i];
		Lock	   *lock;

		if (instance->pid != MyProcPid || instance->holdMask == 0 ||
			instance->locktag.locktag_lockmethodid != USER_LOCKMETHOD)
			continue;
		lock = palloc(sizeof(Lock));
		lock->tag = instance->locktag;
		lock->modes = instance->holdMask;
		locks = lappend(locks, lock);
	}
	return locks;
}

/* ObxGuarded: an error says that no sequence was used. */
static void
ask_lastval(void *arg)
{
	(void) OidFunctionCall0(F_LASTVAL);
}

static bool
has_used_sequences(void)
{
	ErrorData  *error = obx_guard_call(ask_lastval, NULL, CurrentMemoryContext);

	return error == NULL || error->sqlerrcode != ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
}

void
obx_guest_begin(void)
{
	ListCell   *lc;

	host = palloc0(sizeof(Host));
	foreach(lc, list_prepared())
	{
		Prepared   *prepared = palloc(sizeof(Prepared));
		PreparedStatement *statement = FetchPreparedStatement(lfirst(lc), true);

		prepared->name = lfirst(lc);
		prepared->time = statement->prepare_time;
		prepared->plan = statement->plansource;
		host->prepared = lappend(host->prepared, prepared);
	}
	host->locks = list_locks();
	host->channels = obx_table_list_strings("SELECT c FROM pg_catalog.pg_listening_channels() c");
	host->sequences = has_used_sequences();
}

void
obx_guest_end(void)
{
	host = NULL;
}

/* ---- what is new ---- */

/* Those that were made in this transaction, and do not run now. */
static void
close_cursors(void)
{
	ListCell   *lc;

	foreach(lc, obx_table_list_strings("SELECT name FROM pg_catalog.pg_cursor()"))
	{
		Portal		portal = GetPortalByName(lfirst(lc));

		if (PortalIsValid(portal) && portal->createSubid != InvalidSubTransactionId &&
			portal->status != PORTAL_ACTIVE && !portal->portalPinned)
			PortalDrop(portal, false);
	}
}

/* Those that this transaction has put into the session's temporary schema. */
static void
drop_temporary(void)
{
	Oid			namespace;
	Oid			toast_namespace;
	Relation	depend;
	SysScanDesc scan;
	ScanKeyData key[2];
	HeapTuple	tuple;
	ObjectAddresses *objects;

	GetTempNamespaceState(&namespace, &toast_namespace);
	if (!OidIsValid(namespace))
		return;

	CommandCounterIncrement();
	objects = new_object_addresses();
	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(NamespaceRelationId));
	ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(namespace));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend form = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress object;

		if (!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			continue;
		ObjectAddressSubSet(object, form->classid, form->objid, form->objsubid);
		add_exact_object_address(&object, objects);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);

	/* dropping a table may read what its catalog rows keep out of line */
	PushActiveSnapshot(GetTransactionSnapshot());
	performMultipleDeletions(objects, DROP_CASCADE,
							 PERFORM_DELETION_INTERNAL | PERFORM_DELETION_QUIETLY |
							 PERFORM_DELETION_SKIP_EXTENSIONS);
	PopActiveSnapshot();
	free_object_addresses(objects);
}

/* Whatever the transaction is about to do about channels, in the end it is these. */
static void
restore_channels(void)
{
	ListCell   *lc;

	Async_UnlistenAll();
	foreach(lc, host->channels)
		Async_Listen(lfirst(lc));
}

static bool
is_hosts(const PreparedStatement * statement)
{
	ListCell   *lc;

	foreach(lc, host->prepared)
	{
		const Prepared *prepared = lfirst(lc);

		if (strcmp(prepared->name, statement->stmt_name) == 0)
			return prepared->time == statement->prepare_time &&
				prepared->plan == statement->plansource;
	}
	return false;
}

static void
drop_prepared(void)
{
	ListCell   *lc;

	foreach(lc, list_prepared())
		if (!is_hosts(FetchPreparedStatement(lfirst(lc), true)))
		DropPreparedStatement(lfirst(lc), false);
}

/* The modes in which the session had it. */
static LOCKMASK
modes_before(const LOCKTAG *tag)
{
	ListCell   *lc;

	foreach(lc, host->locks)
		if (memcmp(&((Lock *) lfirst(lc))->tag, tag, sizeof(LOCKTAG)) == 0)
		return ((Lock *) lfirst(lc))->modes;
	return 0;
}

static void
release_locks(void)
{
	ListCell   *lc;

	foreach(lc, list_locks())
	{
		Lock	   *lock = lfirst(lc);
		LOCKMASK	modes = lock->modes & ~modes_before(&lock->tag);

		for (LOCKMODE mode = 1; mode <= MaxLockMode; mode++)
			while ((modes & LOCKBIT_ON(mode)) && obx_lock_is_held(&lock->tag, mode) &&
				   LockRelease(&lock->tag, mode, true))
				;
	}
}

/* ---- what is the host's ---- */

/*
 * Commands that need no rights on what they remove, and remove everything of a
 * kind: for guests that is everything of theirs.  PostgreSQL refuses what code
 * that runs as another role must not remove.
 */
static bool
is_guests_command(void)
{
	return host != NULL && !InSecurityRestrictedOperation();
}

static bool
replace_discard(Node *command)
{
	DiscardMode target = castNode(DiscardStmt, command)->target;

	if (!is_guests_command() || (target != DISCARD_TEMP && target != DISCARD_SEQUENCES))
		return false;
	if (target == DISCARD_TEMP)
		drop_temporary();
	else if (!host->sequences)
		ResetSequenceCaches();
	return true;
}

static bool
replace_deallocate(Node *command)
{
	if (!is_guests_command() || castNode(DeallocateStmt, command)->name != NULL)
		return false;
	drop_prepared();
	return true;
}

static bool
replace_close(Node *command)
{
	if (!is_guests_command() || castNode(ClosePortalStmt, command)->portalname != NULL)
		return false;
	close_cursors();
	return true;
}

static const ObxHookWatcher watchers[] = {
	{.command = T_DiscardStmt,.replace = replace_discard},
	{.command = T_DeallocateStmt,.replace = replace_deallocate},
	{.command = T_ClosePortalStmt,.replace = replace_close},
};

void
obx_guest_init(void)
{
	obx_hook_watch(watchers, lengthof(watchers));
}

/* ---- the end of a batch ---- */

void
obx_guest_clear(void)
{
	close_cursors();
	drop_temporary();
	drop_prepared();
	restore_channels();
}

void
obx_guest_abandon(void)
{
	drop_prepared();
	release_locks();
	if (!host->sequences)
		ResetSequenceCaches();
}
