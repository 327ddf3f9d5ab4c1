/*
 * Writing the index on (xid, id).
 *
 * Most of what an event in a large statement costs would be its index entry:
 * a descent or a comparison, a lock, and a WAL record longer than the entry,
 * for each of them.  But the entries of a flush are neighbours: one
 * transaction's, with rising ids.  So where many are to be inserted, nbtree
 * finds and locks the leaf page of the first, and all that belong there and
 * fit are added in one go and in one generic WAL record.  The entry that does
 * not fit is inserted in the ordinary way, which splits the page.
 *
 * What must hold, and is what nbtree itself does when it adds an entry to a
 * leaf page: the page is locked exclusively and is the one that the entry
 * belongs to, entries stay in order and below the high key, and nothing else
 * of the page changes.  Every entry that is inserted here is followed by a
 * larger one, or by the high key, or by the end of the index; who else inserts
 * finds and locks the page first, and sees all of them or none.
 *
 * Where one entry is added, it nearly always belongs into the last leaf page.
 * That page is remembered where nbtree remembers it, and found again without a
 * descent.  It still is the last one and the entry belongs there if nothing is
 * to its right and something in it is smaller; that is what nbtree asks, too.
 * Then the entry is added with nbtree's own WAL record.
 *
 * OBX_PLAIN leaves all entries to index_insert().  Knows B-trees; must not know
 * events.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/nbtree.h"
#include "access/nbtxlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_am.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/xid8.h"

#include "base/compat.h"
#include "log/event.h"
#include "log/order_index.h"

bool
obx_order_index_is(Relation index)
{
	return index->rd_rel->relam == BTREE_AM_OID &&
		index->rd_index->indnkeyatts == 2 && index->rd_index->indnatts == 2 &&
		index->rd_index->indkey.values[0] == OBX_EVENT_XID + 1 &&
		index->rd_index->indkey.values[1] == OBX_EVENT_ID + 1 &&
		index->rd_indoption[0] == 0 && index->rd_indoption[1] == 0 &&
		index_getprocid(index, 1, BTORDER_PROC) == F_XID8CMP &&
		index_getprocid(index, 2, BTORDER_PROC) == F_BTINT8CMP &&
		!index->rd_index->indisunique &&
		RelationGetIndexPredicate(index) == NIL;
}

#ifndef OBX_PLAIN

/* ---- a leaf page at a time ---- */

/* Fewer entries are cheaper one by one. */
#define OBX_FILL_ENTRIES	8

/* An index tuple as it lies in the page: no column is NULL, none varies. */
typedef struct OrderTuple
{
	IndexTupleData head;
	uint64		xid;
	int64		id;
} OrderTuple;

StaticAssertDecl(sizeof(OrderTuple) == MAXALIGN(sizeof(OrderTuple)) &&
				 offsetof(OrderTuple, xid) == MAXALIGN(sizeof(IndexTupleData)),
				 "an index tuple's columns follow its header");

static OrderTuple
make_tuple(uint64 xid, const ObxOrderEntry *entry)
{
	OrderTuple	tuple = {.xid = xid,.id = entry->id};

	tuple.head.t_tid = entry->tid;
	tuple.head.t_info = sizeof(OrderTuple);
	return tuple;
}

/*
 * Does that entry come before what is at "offset" in the page?  The high key
 * of a leaf page may lack columns, which then are smaller than any value.
 */
static bool
is_before(Relation index, const OrderTuple *tuple, Page page, OffsetNumber offset)
{
	IndexTuple	other = (IndexTuple) PageGetItem(page, PageGetItemId(page, offset));
	const OrderTuple *bound = (const OrderTuple *) other;
	int			columns = BTreeTupleGetNAtts(other, index);

	if (columns < 1)
		return false;
	if (tuple->xid != bound->xid)
		return tuple->xid < bound->xid;
	return columns > 1 && tuple->id < bound->id;
}

/* What bounds entries that are inserted at "offset": 0 if nothing does. */
static OffsetNumber
find_bound(Page page, OffsetNumber offset)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);

	if (offset <= PageGetMaxOffsetNumber(page))
		return offset;
	return P_RIGHTMOST(opaque) ? InvalidOffsetNumber : P_HIKEY;
}

/*
 * Adds as many entries to the page as belong there and fit; returns how many.
 * It is locked exclusively, and "offset" is where the first one belongs.
 */
static int
add_entries(Relation index, Buffer buffer, OffsetNumber offset, uint64 xid,
			const ObxOrderEntry *entries, int count)
{
	GenericXLogState *state;
	Page		page = BufferGetPage(buffer);
	OffsetNumber bound = find_bound(page, offset);
	OrderTuple	tuple = make_tuple(xid, &entries[0]);
	int			added = 0;

	/*
	 * Entries that a scan has marked as dead are a hint, which is not in the
	 * WAL: a page that has any is left to nbtree, so that what is replayed is
	 * what was here, bit by bit.
	 */
	if (P_HAS_GARBAGE((BTPageOpaque) PageGetSpecialPointer(page)) ||
		PageGetFreeSpace(page) < 2 * sizeof(OrderTuple) ||
		(bound != InvalidOffsetNumber && !is_before(index, &tuple, page, bound)))
		return 0;

	state = GenericXLogStart(index);
	page = GenericXLogRegisterBuffer(state, buffer, 0);
	for (; added < count; added++)
	{
		tuple = make_tuple(xid, &entries[added]);
		if (PageGetFreeSpace(page) < sizeof(OrderTuple))
			break;
		/* what was at "offset" has moved on by as many as were added */
		if (bound != InvalidOffsetNumber &&
			!is_before(index, &tuple, page, bound == P_HIKEY ? bound : bound + added))
			break;
		if (obx_page_add_item(page, &tuple, sizeof(OrderTuple), offset + added) ==
			InvalidOffsetNumber)
			elog(ERROR, "could not add an entry to index \"%s\"",
				 RelationGetRelationName(index));
	}
	GenericXLogFinish(state);
	return added;
}

/* ---- one entry ---- */

/* The page that was used last, to be found without a lookup. */
static struct
{
	BlockNumber block;
	Buffer		buffer;
}			met = {InvalidBlockNumber, InvalidBuffer};

/*
 * Adds the entry to the page as nbtree does; false if it does not fit.  The
 * page is locked exclusively and the entry belongs to "offset".
 */
static bool
add_entry(Relation index, Buffer buffer, OffsetNumber offset, OrderTuple *tuple)
{
	Page		page = BufferGetPage(buffer);

	if (PageGetFreeSpace(page) < sizeof(OrderTuple))
		return false;

	START_CRIT_SECTION();
	if (obx_page_add_item(page, tuple, sizeof(OrderTuple), offset) == InvalidOffsetNumber)
		elog(PANIC, "could not add an entry to index \"%s\"", RelationGetRelationName(index));
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(index))
	{
		xl_btree_insert record = {.offnum = offset};
		XLogRecPtr	lsn;

		XLogBeginInsert();
		XLogRegisterData((char *) &record, SizeOfBtreeInsert);
		XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
		XLogRegisterBufData(0, (char *) tuple, sizeof(OrderTuple));
		lsn = XLogInsert(RM_BTREE_ID, XLOG_BTREE_INSERT_LEAF);
		PageSetLSN(page, lsn);
	}
	END_CRIT_SECTION();
	return true;
}

/*
 * Where in the page does the entry belong, if this is the last leaf page of the
 * index and the entry belongs here?  Else 0.
 */
static OffsetNumber
find_in_last(Relation index, Page page, const OrderTuple *tuple)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber first = P_FIRSTDATAKEY(opaque);
	OffsetNumber offset = OffsetNumberNext(PageGetMaxOffsetNumber(page));

	if (!P_RIGHTMOST(opaque) || !P_ISLEAF(opaque) || P_IGNORE(opaque) ||
		P_INCOMPLETE_SPLIT(opaque) || offset <= first)
		return InvalidOffsetNumber;
	/* other transactions' entries may be larger, but hardly many */
	while (offset > first && is_before(index, tuple, page, OffsetNumberPrev(offset)))
		offset = OffsetNumberPrev(offset);
	return offset > first ? offset : InvalidOffsetNumber;
}

/* The remembered page, locked exclusively. */
static Buffer
lock_last(Relation index)
{
	BlockNumber block = RelationGetTargetBlock(index);

	if (met.block != block || !obx_read_recent(obx_file_of(index), block, met.buffer))
	{
		met.block = block;
		met.buffer = ReadBuffer(index, block);
	}
	LockBuffer(met.buffer, BUFFER_LOCK_EXCLUSIVE);
	_bt_checkpage(index, met.buffer);
	return met.buffer;
}

/* The leaf page that the entry belongs to, locked exclusively. */
static Buffer
lock_leaf(Relation partition, Relation index, OrderTuple *tuple)
{
	BTScanInsert key = _bt_mkscankey(index, &tuple->head);
	Buffer		buffer;

	obx_bt_search(index, partition, key, &buffer);
	pfree(key);
	return buffer;
}

/*
 * Adds the entry to the last leaf page; false if that is not as easy.  nbtree
 * remembers the page of a large index only, and forgets it when it has split.
 */
static bool
append_entry(Relation partition, Relation index, uint64 xid, const ObxOrderEntry *entry)
{
	OrderTuple	tuple = make_tuple(xid, entry);
	bool		remembered = RelationGetTargetBlock(index) != InvalidBlockNumber;
	Buffer		buffer = remembered ? lock_last(index) : lock_leaf(partition, index, &tuple);
	BlockNumber block = BufferGetBlockNumber(buffer);
	OffsetNumber offset = find_in_last(index, BufferGetPage(buffer), &tuple);
	bool		added = false;

	if (offset != InvalidOffsetNumber)
	{
		CheckForSerializableConflictIn(index, NULL, block);
		added = add_entry(index, buffer, offset, &tuple);
	}
	UnlockReleaseBuffer(buffer);
	if (added && !remembered)
		RelationSetTargetBlock(index, block);
	return added;
}

/* ---- many entries ---- */

/* Fills the leaf page that the first entry belongs to; returns with how many. */
static int
fill_leaf(Relation partition, Relation index, uint64 xid, const ObxOrderEntry *entries,
		  int count)
{
	OrderTuple	tuple = make_tuple(xid, &entries[0]);
	BTInsertStateData position = {.itup = &tuple.head,.itemsz = sizeof(OrderTuple)};
	int			added = 0;

	position.itup_key = _bt_mkscankey(index, &tuple.head);
	obx_bt_search(index, partition, position.itup_key, &position.buf);
	CheckForSerializableConflictIn(index, NULL, BufferGetBlockNumber(position.buf));

	/* indexes of before version 12 break ties otherwise */
	if (position.itup_key->heapkeyspace)
	{
		OffsetNumber offset = _bt_binsrch_insert(index, &position);

		if (position.postingoff == 0)
			added = add_entries(index, position.buf, offset, xid, entries, count);
	}
	_bt_relbuf(index, position.buf);
	pfree(position.itup_key);
	return added;
}

#endif							/* OBX_PLAIN */

/* ---- inserting ---- */

void
obx_order_index_insert(Relation partition, Relation index, uint64 xid,
					   const ObxOrderEntry *entries, int count)
{
	IndexInfo	info = {.type = T_IndexInfo};
	bool		isnull[2] = {false, false};
	Datum		values[2];
	int			i = 0;

	values[0] = FullTransactionIdGetDatum(FullTransactionIdFromU64(xid));
	while (i < count)
	{
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
#ifndef OBX_PLAIN
		if (count - i >= OBX_FILL_ENTRIES)
			i += fill_leaf(partition, index, xid, &entries[i], count - i);
		if (i == count)
			break;
		if (append_entry(partition, index, xid, &entries[i]))
		{
			i++;
			continue;
		}
#endif
		values[1] = Int64GetDatum(entries[i].id);
		tid = entries[i].tid;
		obx_index_insert(index, values, isnull, &tid, partition, UNIQUE_CHECK_NO, &info);
		i++;
	}
	obx_index_insert_cleanup(index, &info);
}
