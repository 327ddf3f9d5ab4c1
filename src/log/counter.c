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
 * Must not know events.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

#include "base/compat.h"
#include "catalog/names.h"
#include "log/counter.h"

/* How far ahead of the counter its log is; as much as nextval() does. */
#define OBX_IDS_LOGGED	32

/* The sequence that was found fit. */
static Oid	checked = InvalidOid;

/* The transaction that has it locked. */
static LocalTransactionId locked_by = InvalidLocalTransactionId;

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

/* Locked until the transaction ends, even if this subtransaction aborts. */
static Relation
open_counter(void)
{
	Oid			relid = obx_object_require(OBX_EVENT_ID_SEQ);

	check_counter(relid);
	if (locked_by != obx_my_lxid())
	{
		ResourceOwner owner = CurrentResourceOwner;

		CurrentResourceOwner = TopTransactionResourceOwner;
		LockRelationOid(relid, RowExclusiveLock);
		CurrentResourceOwner = owner;
		locked_by = obx_my_lxid();
	}
	return relation_open(relid, NoLock);
}

/* Logs the counter as it will be when "value" has been drawn. */
static void
log_counter(Relation counter, Buffer buffer, HeapTupleHeader tuple, Size length, int64 value)
{
	Form_pg_sequence_data sequence = (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);
	xl_seq_rec	record;
	XLogRecPtr	lsn;

	sequence->last_value = value;
	sequence->is_called = true;
	sequence->log_cnt = 0;

	obx_sequence_record_set(&record, counter);
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
	XLogRegisterData((char *) &record, sizeof(record));
	XLogRegisterData((char *) tuple, length);
	lsn = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
	PageSetLSN(BufferGetPage(buffer), lsn);
}

int64
obx_counter_draw(int count)
{
	Relation	counter;
	Buffer		buffer;
	Page		page;
	ItemId		item;
	HeapTupleHeader tuple;
	Form_pg_sequence_data sequence;
	int64		first;
	int64		logged;			/* ids after the last one drawn that are
								 * logged */

	PreventCommandIfReadOnly("nextval()");
	PreventCommandIfParallelMode("nextval()");
	counter = open_counter();

	buffer = ReadBuffer(counter, 0);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	item = PageGetItemId(page, FirstOffsetNumber);
	tuple = (HeapTupleHeader) PageGetItem(page, item);
	sequence = (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);

	first = sequence->is_called ? sequence->last_value + 1 : sequence->last_value;
	if (first > PG_INT64_MAX - count - OBX_IDS_LOGGED)
		elog(ERROR, "outbox.event_id_seq has no more values");
	logged = sequence->is_called ? sequence->log_cnt - count : -1;

	/* after a checkpoint, replay would not meet what was logged before */
	if (PageGetLSN(page) <= GetRedoRecPtr())
		logged = -1;

	/* who sees the page meanwhile waits for the lock, a checkpoint as well */
	START_CRIT_SECTION();
	MarkBufferDirty(buffer);
	if (logged < 0)
	{
		logged = OBX_IDS_LOGGED;
		if (RelationNeedsWAL(counter))
			log_counter(counter, buffer, tuple, ItemIdGetLength(item),
						first + count - 1 + logged);
	}
	sequence->last_value = first + count - 1;
	sequence->is_called = true;
	sequence->log_cnt = logged;
	END_CRIT_SECTION();

	UnlockReleaseBuffer(buffer);
	relation_close(counter, NoLock);
	return first;
}
