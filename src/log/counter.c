/*
 * The counter that ids of events are drawn from: a sequence.
 *
 * The order of the log rests on when an id is drawn: after its event was
 * emitted, hence after the locks of the row that it tells of were taken, and
 * before its transaction commits.  Ids that were drawn before that and kept
 * would break it, so nobody keeps any: the sequence has CACHE 1.  But many
 * events that have all been emitted can be given ids at once, which nextval()
 * cannot do.  So this does to the sequence what nextval() does, only by more
 * than one: it locks the page, writes the new value, and logs a value some way
 * ahead, so that not each call needs a WAL record.
 *
 * The page in shared memory is the counter, and what is logged its high-water
 * mark.  Where no record is needed, which is most often, the page is found
 * where it was last and the sequence is neither opened nor locked.  This holds
 * only while the sequence has the same file, so news of another one is
 * accepted first.  unwritten.h knows which processes have drawn, or else a
 * lock on the sequence shows it.
 *
 * A sequence can be set back: by hand, and by a restore.  That leaves log_cnt
 * at 0, which a draw never does, nor the replay of one; so a draw that finds
 * it at 0 looks for the highest id in use, and goes on above it.
 *
 * Must not know events.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/namespace.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "base/hook.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "log/counter.h"
#include "log/unwritten.h"

/* How far ahead of the counter its log is: what a crash may leave out. */
#define OBX_IDS_LOGGED	128

/*
 * What a counter that was drawn from has left at least, so that it differs from
 * one that was set.  It is never drawn without a new record.
 */
#define OBX_IDS_LEFT	1

/* How far the counter is stepped where ids may be in use that cannot be seen. */
#define OBX_ID_STEP		1000000

int64		(*obx_counter_highest) (void) = NULL;
void		(*obx_counter_at_set) (void) = NULL;

/* The counter's page, locked. */
typedef struct CounterPage
{
	Relation	counter;
	Buffer		buffer;
	HeapTupleHeader tuple;
	Size		length;
	Form_pg_sequence_data sequence;
} CounterPage;

/* The sequence that was found fit. */
static Oid	checked = InvalidOid;

/* The transaction that has it locked. */
static LocalTransactionId locked_by = InvalidLocalTransactionId;

/* The last id that this process drew, and the transaction that it drew it in. */
static int64 last_drawn = 0;
static LocalTransactionId drawn_by = InvalidLocalTransactionId;

/* Ids drawn ahead would not rise with time, and the order rests on that. */
static void
check_counter(Oid relid)
{
	HeapTuple	tuple;
	Form_pg_sequence sequence;

	if (likely(relid == checked))
		return;
	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence outbox.event_id_seq");
	sequence = (Form_pg_sequence) GETSTRUCT(tuple);
	if (sequence->seqcache != 1 || sequence->seqincrement != 1 || sequence->seqcycle)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"outbox.event_id_seq\" has been altered"),
				 errdetail("The order of events rests on ids that rise with time."),
				 errhint("ALTER SEQUENCE outbox.event_id_seq INCREMENT 1 CACHE 1 NO CYCLE.")));
	ReleaseSysCache(tuple);
	checked = relid;
}

/*
 * Says to others that ids are drawn, until the transaction ends, even if this
 * subtransaction aborts.
 */
static void
enter(Oid relid)
{
	if (!obx_unwritten_enter() && locked_by != obx_my_lxid())
	{
		ResourceOwner owner = CurrentResourceOwner;

		CurrentResourceOwner = TopTransactionResourceOwner;
		LockRelationOid(relid, RowExclusiveLock);
		CurrentResourceOwner = owner;
		locked_by = obx_my_lxid();
	}
}

static Relation
open_counter(void)
{
	Oid			relid = obx_object_require(OBX_EVENT_ID_SEQ);

	check_counter(relid);
	enter(relid);
	return relation_open(relid, RowExclusiveLock);
}

static void
close_counter(Relation counter)
{
	relation_close(counter, RowExclusiveLock);
}

/* The page is in that buffer; "counter" may be NULL. */
static CounterPage
lock_buffer(Relation counter, Buffer buffer, int mode)
{
	CounterPage page = {.counter = counter,.buffer = buffer};
	ItemId		item;

	LockBuffer(page.buffer, mode);
	item = PageGetItemId(BufferGetPage(page.buffer), FirstOffsetNumber);
	page.tuple = (HeapTupleHeader) PageGetItem(BufferGetPage(page.buffer), item);
	page.length = ItemIdGetLength(item);
	page.sequence = (Form_pg_sequence_data) ((char *) page.tuple + page.tuple->t_hoff);
	return page;
}

static CounterPage
lock_page(Relation counter, int mode)
{
	return lock_buffer(counter, ReadBuffer(counter, 0), mode);
}

/*
 * Logs the counter as it will be when "value" has been drawn, or is the next;
 * "left" is log_cnt then.
 */
static void
log_counter(const CounterPage *page, int64 value, bool is_called, int64 left)
{
	xl_seq_rec	record;
	XLogRecPtr	lsn;

	page->sequence->last_value = value;
	page->sequence->is_called = is_called;
	page->sequence->log_cnt = left;
	if (!RelationNeedsWAL(page->counter))
		return;

	obx_sequence_record_set(&record, page->counter);
	XLogBeginInsert();
	XLogRegisterBuffer(0, page->buffer, REGBUF_WILL_INIT);
	XLogRegisterData((char *) &record, sizeof(record));
	XLogRegisterData((char *) page->tuple, page->length);
	lsn = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
	PageSetLSN(BufferGetPage(page->buffer), lsn);
}

/*
 * Does another transaction have ids that are not in the log yet?  All of them
 * have entered, and stay to their end, but those that are prepared, which have
 * written theirs.
 */
static bool
has_other_writers(Relation counter)
{
	LOCKTAG		tag = obx_lock_counter(RelationGetRelid(counter));
	int			count;

	if (obx_unwritten_has_others())
		return true;
	(void) GetLockConflicts(&tag, ShareLock, &count);
	return count > 0;
}

/* The least id that may be drawn, of a counter that may have been set back. */
static int64
find_least(Relation counter, int64 next)
{
	/* first: what is no longer drawn by others has been written */
	bool		others = next > 1 && has_other_writers(counter);
	int64		highest = obx_counter_highest();

	if (obx_counter_at_set != NULL)
		obx_counter_at_set();
	if (drawn_by == obx_my_lxid())
		highest = Max(highest, last_drawn);
	if (next <= highest || others)
		return Max(next, highest + 1) + OBX_ID_STEP;
	return next;
}

static inline int64
next_of(const CounterPage *page)
{
	return page->sequence->is_called ? page->sequence->last_value + 1 :
		page->sequence->last_value;
}

/*
 * Can that many ids be drawn from the page without a new record?  After a
 * checkpoint, replay would not meet what was logged before.
 */
static inline bool
is_logged(const CounterPage *page, int64 count)
{
	return page->sequence->is_called && page->sequence->log_cnt - count >= OBX_IDS_LEFT &&
		PageGetLSN(BufferGetPage(page->buffer)) > GetRedoRecPtr();
}

static inline void
set_drawn(const CounterPage *page, int64 last, int64 logged)
{
	last_drawn = last;
	drawn_by = obx_my_lxid();
	page->sequence->last_value = last;
	page->sequence->is_called = true;
	page->sequence->log_cnt = logged;
}

#ifndef OBX_PLAIN

/* ---- without opening it ---- */

/* Where the page was last. */
static struct
{
	Oid			relid;			/* InvalidOid: not known */
	ObxFile		file;
	Buffer		buffer;
}			met;

static void
forget_page(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == met.relid)
		met.relid = InvalidOid;
}

static void
note_page(const CounterPage *page)
{
	met.relid = RelationGetRelid(page->counter);
	met.file = obx_file_of(page->counter);
	met.buffer = page->buffer;
}

/* False if that takes more: a record, or a look at what ids are in use. */
static bool
draw_noted(int count, int64 *first)
{
	Oid			relid = obx_object_require(OBX_EVENT_ID_SEQ);
	CounterPage page;
	bool		logged;

	if (met.relid != relid || !obx_unwritten_enter())
		return false;
	/* as taking a lock on the sequence would */
	AcceptInvalidationMessages();
	if (met.relid != relid || !obx_read_recent(met.file, 0, met.buffer))
		return false;

	page = lock_buffer(NULL, met.buffer, BUFFER_LOCK_EXCLUSIVE);
	/* first: a checkpoint that begins after the next look finds it dirty */
	MarkBufferDirty(page.buffer);
	logged = is_logged(&page, count);
	if (logged)
	{
		*first = page.sequence->last_value + 1;
		set_drawn(&page, page.sequence->last_value + count, page.sequence->log_cnt - count);
	}
	UnlockReleaseBuffer(page.buffer);
	return logged;
}

#endif							/* OBX_PLAIN */

/* ---- drawing ---- */

/* Draws ids of at least "least". */
static int64
draw(int count, int64 least)
{
	Relation	counter;
	CounterPage page;
	int64		first;
	int64		logged;			/* ids after the last one drawn that are
								 * logged */

	PreventCommandIfReadOnly("nextval()");
	PreventCommandIfParallelMode("nextval()");
#ifndef OBX_PLAIN
	if (least == 0 && draw_noted(count, &first))
		return first;
#endif
	counter = open_counter();

	page = lock_page(counter, BUFFER_LOCK_EXCLUSIVE);
	if (unlikely(page.sequence->log_cnt == 0))
	{
		int64		next = next_of(&page);

		UnlockReleaseBuffer(page.buffer);
		least = Max(least, find_least(counter, next));
		page = lock_page(counter, BUFFER_LOCK_EXCLUSIVE);
	}

	first = Max(next_of(&page), least);
	if (first > PG_INT64_MAX - count - OBX_IDS_LOGGED)
		elog(ERROR, "outbox.event_id_seq has no more values");
	logged = page.sequence->log_cnt - (first - next_of(&page)) - count;

	if (!is_logged(&page, 0))
		logged = 0;

	/* who sees the page meanwhile waits for the lock, a checkpoint as well */
	START_CRIT_SECTION();
	MarkBufferDirty(page.buffer);
	if (logged < OBX_IDS_LEFT)
	{
		logged = OBX_IDS_LOGGED;
		log_counter(&page, first + count - 1 + logged, true, OBX_IDS_LEFT);
	}
	set_drawn(&page, first + count - 1, logged);
	END_CRIT_SECTION();
#ifndef OBX_PLAIN
	note_page(&page);
#endif

	UnlockReleaseBuffer(page.buffer);
	close_counter(counter);
	return first;
}

int64
obx_counter_draw(int count)
{
	return draw(count, 0);
}

int64
obx_counter_step(int64 above)
{
	int64		id = draw(1, above + 1);

	return draw(1, id + OBX_ID_STEP) + 1;
}

ObxCounterState
obx_counter_state(void)
{
	Relation	counter = relation_open(obx_object_require(OBX_EVENT_ID_SEQ), AccessShareLock);
	CounterPage page = lock_page(counter, BUFFER_LOCK_SHARE);
	ObxCounterState state = !page.sequence->is_called ? OBX_COUNTER_NEW :
	page.sequence->log_cnt == 0 ? OBX_COUNTER_SET : OBX_COUNTER_DRAWN;

	UnlockReleaseBuffer(page.buffer);
	relation_close(counter, AccessShareLock);
	return state;
}

bool
obx_counter_rest(void)
{
	Relation	counter;
	CounterPage page;
	bool		is_free;

	counter = open_counter();
	if (has_other_writers(counter))
	{
		close_counter(counter);
		return false;
	}
	page = lock_page(counter, BUFFER_LOCK_EXCLUSIVE);
	/* from now on nobody draws, but somebody may have since that look */
	is_free = !obx_unwritten_has_others();
	if (is_free)
	{
		START_CRIT_SECTION();
		MarkBufferDirty(page.buffer);
		log_counter(&page, next_of(&page), false, 0);
		END_CRIT_SECTION();
	}
	UnlockReleaseBuffer(page.buffer);
	close_counter(counter);
	return is_free;
}

/*
 * ALTER SEQUENCE may have given it another file, in which the counter stands
 * where it stood when that was written; ids that were drawn from the former one
 * since then are unknown to it.  So it counts as set back.
 */
static void
follow_alter_sequence(Node *command, uint64 state)
{
	Relation	counter;
	CounterPage page;
	Oid			relid = RangeVarGetRelid(((AlterSeqStmt *) command)->sequence, NoLock, true);

	if (!OidIsValid(relid) || !OidIsValid(obx_extension_find()) ||
		relid != obx_object_require(OBX_EVENT_ID_SEQ))
		return;
	counter = relation_open(relid, RowExclusiveLock);
	page = lock_page(counter, BUFFER_LOCK_EXCLUSIVE);
	START_CRIT_SECTION();
	MarkBufferDirty(page.buffer);
	log_counter(&page, page.sequence->last_value, page.sequence->is_called, 0);
	END_CRIT_SECTION();
	UnlockReleaseBuffer(page.buffer);
	relation_close(counter, NoLock);
	checked = InvalidOid;
}

static const ObxHookWatcher alter_watcher = {
	.command = T_AlterSeqStmt,
	.after = follow_alter_sequence
};

void
obx_counter_init(void)
{
	obx_unwritten_init();
	obx_hook_watch(&alter_watcher, 1);
#ifndef OBX_PLAIN
	CacheRegisterRelcacheCallback(forget_page, (Datum) 0);
#endif
}
