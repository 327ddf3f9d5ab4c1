/*
 * Claims: doing something once only, by a key.
 *
 * A use is a row in one of the tables outbox.seen_*.  Looking up and writing a
 * row is one step, under a lock on the key that is held only for that step, so
 * a transaction with 100,000 keys holds one lock at a time.  The next session
 * that looks up the key finds the row of the open transaction, and waits for
 * its end as a unique index would.  (A unique index would not work: a use that
 * is older than the window must not block a new one.)
 *
 * For a scheduled event, the use is its row in outbox.schedule, while that row
 * exists.  So its key stays taken for any time, and cancelling frees it
 * together with the row.  A row of outbox.seen_* is written when the event
 * enters the log, in the same transaction. outbox.schedule is searched first:
 * if the event enters the log after that, the second search finds it.
 *
 * The tables are written in turn, so that old rows can be removed by TRUNCATE.
 * The table of a row has no meaning: all are searched.  But no row inside the
 * window may be truncated.  Hence a turn is sealed, under a lock that proves
 * that no transaction which wrote to it is open; later writers see another
 * turn.  All rows of the turn are older than its seal.  When the seal is older
 * than the window, the table is no longer searched and can be truncated.
 *
 * Locks: (outbox.seen_turn, hash of the key, ...) on a key; the same object
 * with sub-object 0 for forgetting keys; ROW EXCLUSIVE on the written table,
 * until the transaction ends.
 */
#include "postgres.h"

#include "access/table.h"
#include "common/hashfn.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/clock.h"
#include "base/command.h"
#include "base/compat.h"
#include "base/identity.h"
#include "base/settings.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "catalog/schedule.h"
#include "emit/once.h"
#include "log/holders.h"

/* The turn that this transaction writes to, while it has the table's lock. */
static struct
{
	LocalTransactionId transaction;
	int64		turn;
}			written = {InvalidLocalTransactionId, 0};

static TimestampTz
window_start(TimestampTz now)
{
	return now - obx_idempotency_window * USECS_PER_SEC;
}

/* ---- claiming ---- */

static uint64
hash_text(Datum value, uint64 seed)
{
	text	   *string = DatumGetTextPP(value);

	return DatumGetUInt64(hash_any_extended((unsigned char *) VARDATA_ANY(string),
											VARSIZE_ANY_EXHDR(string), seed));
}

/* Publishers' keys only can be those of scheduled events. */
static void
find_uses(ObxOnce *claim, ObxScheduleUse *scheduled, ObxSeen *seen)
{
	TimestampTz since;
	ObxSeenTurns turns;

	memset(scheduled, 0, sizeof(ObxScheduleUse));
	memset(seen, 0, sizeof(ObxSeen));
	if (VARSIZE_ANY_EXHDR(DatumGetPointer(claim->key.consumer)) == 0)
		obx_schedule_find_key(claim->key.key, scheduled);
	claim->time = GetCurrentTimestamp();
	since = window_start(claim->time);
	obx_seen_read_turns(&turns);
	claim->turn = turns.current;
	for (int i = 0; i < OBX_SEEN_TABLES && i <= turns.current; i++)
		if (turns.sealed_at[i] > since)
			obx_seen_find(turns.current - i, &claim->key, since, seen);
}

bool
obx_once_begin(ObxOnce *claim, Datum consumer, Datum key, ObxOnceUse *use)
{
	ObxScheduleUse scheduled;
	ObxSeen		seen;
	bool		found;

	claim->key.consumer = consumer;
	claim->key.key = key;
	claim->lock = obx_lock_key(hash_text(key, hash_text(consumer, 0)));

	for (;;)
	{
		(void) obx_lock_acquire(claim->lock, ExclusiveLock, true);
		find_uses(claim, &scheduled, &seen);
		found = scheduled.id != 0 || seen.found;
		if (!found && !TransactionIdIsValid(scheduled.writer) &&
			!TransactionIdIsValid(seen.writer))
			return true;

		obx_lock_release(claim->lock, ExclusiveLock);
		if (found)
			break;
		XactLockTableWait(TransactionIdIsValid(scheduled.writer) ? scheduled.writer : seen.writer,
						  NULL, NULL, XLTW_None);
	}

	if (!scheduled.in_snapshot && !seen.in_snapshot)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent use of a key"),
				 errdetail("It was used after this transaction's snapshot had been taken."),
				 errhint("The transaction might succeed if retried.")));
	use->event_id = seen.event_id;
	use->scheduled_id = seen.found ? 0 : scheduled.id;
	return false;
}

static bool
is_writing(void)
{
	Relation	table;
	bool		locked;

	if (written.transaction != obx_my_lxid())
		return false;
	table = table_open(obx_seen_table(written.turn), AccessShareLock);
	locked = CheckRelationLockedByMe(table, RowExclusiveLock, false);
	table_close(table, AccessShareLock);
	return locked;
}

/*
 * Locks the table of the current turn, and makes sure that it is: else the
 * turn might have been sealed before.  A rolled back savepoint takes the lock
 * with it.
 */
static int64
lock_turn(int64 turn)
{
	if (is_writing())
		return written.turn;

	for (;;)
	{
		Oid			relid = obx_seen_table(turn);
		ObxSeenTurns turns;

		LockRelationOid(relid, RowExclusiveLock);
		obx_seen_read_turns(&turns);
		if (turns.current == turn)
		{
			written.transaction = obx_my_lxid();
			written.turn = turn;
			return turn;
		}
		UnlockRelationOid(relid, RowExclusiveLock);
		turn = turns.current;
	}
}

void
obx_once_finish(ObxOnce *claim, int64 event_id)
{
	obx_seen_insert(lock_turn(claim->turn), &claim->key, event_id, claim->time);
	obx_lock_release(claim->lock, ExclusiveLock);
}

void
obx_once_leave(ObxOnce *claim)
{
	obx_lock_release(claim->lock, ExclusiveLock);
}

/* A session that asks for the key meets the row that is being deleted, and waits. */
void
obx_once_complete(Datum key, TimestampTz time, int64 event_id)
{
	ObxSeenKey	seen = {PointerGetDatum(cstring_to_text("")), key};
	ObxSeenTurns turns;

	if (time <= window_start(GetCurrentTimestamp()))
		return;
	obx_seen_read_turns(&turns);
	obx_seen_insert(lock_turn(turns.current), &seen, event_id, time);
}

/* ---- forgetting ---- */

/* Whether a table of earlier turns could not be had in this round. */
static bool is_refused = false;

static void
report_holders(void)
{
	static ObxHolders holders;
	List	   *relids = NIL;
	const char *who;

	for (int turn = 0; turn < OBX_SEEN_TABLES; turn++)
		relids = lappend_oid(relids, obx_seen_table(turn));
	if (!is_refused)
		obx_holders_forget(&holders);
	else if ((who = obx_holders_refused(&holders, relids)) != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("no idempotency keys can be forgotten while their table is in use"),
				 errdetail("Locks are held by: %s.", who),
				 errhint("Their tables grow until these transactions end.")));
	is_refused = false;
}

/*
 * Seals earlier turns that nobody writes to any more; again, where the clock was
 * ahead when one was sealed, or its keys would be kept until it is there again.
 */
static void
seal_turns(ObxSeenTurns *turns)
{
	for (int i = 1; i < OBX_SEEN_TABLES && i <= turns->current; i++)
	{
		int64		turn = turns->current - i;

		if (turns->sealed_at[i] != DT_NOEND && !obx_clock_was_ahead(turns->sealed_at[i], 0))
			continue;
		if (!ConditionalLockRelationOid(obx_seen_table(turn), ShareLock))
		{
			is_refused = true;
			continue;
		}
		turns->sealed_at[i] = GetCurrentTimestamp();
		obx_seen_insert_turn(turn, turns->sealed_at[i]);
	}
}

/* Empties that turn's table, if it can be had; false if it is not empty then. */
static bool
empty_table(int64 turn)
{
	Oid			relid = obx_seen_table(turn);
	Relation	table;
	BlockNumber blocks;

	table = table_open(relid, AccessShareLock);
	blocks = RelationGetNumberOfBlocks(table);
	table_close(table, AccessShareLock);
	if (blocks == 0)
		return true;
	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
	{
		is_refused = true;
		return false;
	}

	obx_command_run(psprintf("TRUNCATE TABLE outbox.%s", quote_identifier(get_rel_name(relid))));
	return true;
}

/*
 * Is it time for the next turn?  Half a window each: the oldest of three
 * tables is past the window then.  A use that lies ahead was noted by a clock
 * that was wrong; its key stays taken as long as its table is kept.
 */
static bool
is_turn_over(int64 turn, TimestampTz now)
{
	TimestampTz first;

	return obx_seen_first_time(turn, &first) &&
		(first <= now - obx_idempotency_window * USECS_PER_SEC / 2 ||
		 obx_clock_was_ahead(first, 0));
}

static void
forget_expired(void)
{
	ObxSeenTurns turns;
	TimestampTz now = GetCurrentTimestamp();
	bool		next_is_empty = true;

	obx_seen_read_turns(&turns);
	seal_turns(&turns);
	for (int i = 1; i < OBX_SEEN_TABLES && i <= turns.current; i++)
	{
		bool		is_empty = turns.sealed_at[i] <= window_start(now) &&
		empty_table(turns.current - i);

		/* the last one's table is the next to be written to */
		if (i == OBX_SEEN_TABLES - 1)
			next_is_empty = is_empty;
	}
	if (next_is_empty && is_turn_over(turns.current, now))
	{
		obx_seen_insert_turn(turns.current + 1, DT_NOEND);
		obx_seen_delete_turns_before(turns.current + 2 - OBX_SEEN_TABLES);
	}
}

void
obx_once_forget(void)
{
	Relation	table = table_open(obx_object_require(OBX_SEEN_TURN), AccessShareLock);
	Oid			owner = table->rd_rel->relowner;
	ObxIdentity former;

	table_close(table, NoLock);
	if (!obx_lock_acquire(obx_lock_turn(), ExclusiveLock, false))
		return;

	obx_identity_assume(&former, owner);
	PushActiveSnapshot(GetLatestSnapshot());
	forget_expired();
	PopActiveSnapshot();
	obx_identity_restore(&former);
	report_holders();
}
