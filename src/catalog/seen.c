/*
 * Rows of outbox.seen_*: what was done and must not be done again.
 *
 * They are looked at as they are now, whatever snapshot the transaction has,
 * and with those of open transactions: to tell "not done" from "perhaps being
 * done".  A caller that looks and then writes takes a lock of its own.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/table.h"
#include "catalog/names.h"
#include "catalog/seen.h"

/* Columns of outbox.seen_*. */
enum
{
	CONSUMER,
	KEY,
	EVENT_ID,
	TIME,
	COLUMNS
};

/* Columns of outbox.seen_turn. */
enum
{
	TURN,
	SEALED_AT,
	TURN_COLUMNS
};

Oid
obx_seen_table(int64 turn)
{
	return obx_object_require(OBX_SEEN_0 + turn % OBX_SEEN_TABLES);
}

/* ---- turns ---- */

void
obx_seen_read_turns(ObxSeenTurns *turns)
{
	ObxScan		scan;
	HeapTuple	tuple;

	turns->current = 0;
	for (int i = 0; i < OBX_SEEN_TABLES; i++)
		turns->sealed_at[i] = DT_NOEND;

	obx_scan_begin(&scan, obx_object_require(OBX_SEEN_TURN), AccessShareLock,
				   obx_object_require(OBX_SEEN_TURN_IDX), SnapshotSelf, NULL, 0,
				   BackwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[TURN_COLUMNS];
		bool		nulls[TURN_COLUMNS];
		int64		turn;

		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		turn = DatumGetInt64(values[TURN]);
		turns->current = Max(turns->current, turn);
		if (turn <= turns->current - OBX_SEEN_TABLES)
			break;
		/* one that was sealed while the clock was ahead has been sealed again */
		if (!nulls[SEALED_AT])
			turns->sealed_at[turns->current - turn] =
				Min(turns->sealed_at[turns->current - turn],
					DatumGetTimestampTz(values[SEALED_AT]));
	}
	obx_scan_end(&scan);
}

void
obx_seen_insert_turn(int64 turn, TimestampTz sealed_at)
{
	Relation	table = table_open(obx_object_require(OBX_SEEN_TURN), RowExclusiveLock);
	Datum		values[TURN_COLUMNS] = {Int64GetDatum(turn), TimestampTzGetDatum(sealed_at)};
	bool		nulls[TURN_COLUMNS] = {false, sealed_at == DT_NOEND};

	heap_freetuple(obx_table_insert(table, values, nulls));
	table_close(table, NoLock);
}

void
obx_seen_delete_turns_before(int64 turn)
{
	ScanKeyData key;
	ObxScan		scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, TURN + 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum(turn));
	obx_scan_begin(&scan, obx_object_require(OBX_SEEN_TURN), RowExclusiveLock,
				   obx_object_require(OBX_SEEN_TURN_IDX), NULL, &key, 1, BackwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
		obx_table_delete(scan.table, tuple);
	obx_scan_end(&scan);
}

/* ---- keys ---- */

/* The first use counts. */
static void
add_use(ObxSeen *seen, HeapTuple tuple, TimestampTz time, int64 event_id)
{
	if (!seen->found || time < seen->time)
	{
		seen->time = time;
		seen->event_id = event_id;
	}
	seen->in_snapshot = seen->in_snapshot || obx_tuple_is_in_snapshot(tuple);
	seen->found = true;
}

void
obx_seen_find(int64 turn, const ObxSeenKey *key, TimestampTz since, ObxSeen *seen)
{
	Oid			relid = obx_seen_table(turn);
	Oid			index = obx_object_require(OBX_SEEN_0_IDX + turn % OBX_SEEN_TABLES);
	SnapshotData dirty;
	ScanKeyData keys[2];
	ObxScan		scan;
	HeapTuple	tuple;

	InitDirtySnapshot(dirty);
	ScanKeyInit(&keys[0], KEY + 1, BTEqualStrategyNumber, F_TEXTEQ, key->key);
	ScanKeyInit(&keys[1], CONSUMER + 1, BTEqualStrategyNumber, F_TEXTEQ, key->consumer);
	obx_scan_begin(&scan, relid, AccessShareLock, index, &dirty, keys, 2, ForwardScanDirection);
	while ((tuple = obx_scan_next(&scan)) != NULL)
	{
		Datum		values[COLUMNS];
		bool		nulls[COLUMNS];

		heap_deform_tuple(tuple, RelationGetDescr(scan.table), values, nulls);
		if (DatumGetTimestampTz(values[TIME]) <= since)
			continue;
		if (TransactionIdIsValid(dirty.xmin))
			seen->writer = dirty.xmin;
		else
			add_use(seen, tuple, DatumGetTimestampTz(values[TIME]),
					DatumGetInt64(values[EVENT_ID]));
	}
	obx_scan_end(&scan);

	/* who truncates the table must not have to wait for all who looked */
	UnlockRelationOid(index, AccessShareLock);
	UnlockRelationOid(relid, AccessShareLock);
}

bool
obx_seen_first_time(int64 turn, TimestampTz *time)
{
	Relation	table = table_open(obx_seen_table(turn), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(table, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = obx_table_beginscan(table, snapshot);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);
	bool		isnull;

	if (found)
		*time = DatumGetTimestampTz(slot_getattr(slot, TIME + 1, &isnull));
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, AccessShareLock);
	return found;
}

void
obx_seen_insert(int64 turn, const ObxSeenKey *key, int64 event_id, TimestampTz time)
{
	Relation	table = table_open(obx_seen_table(turn), RowExclusiveLock);
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	values[CONSUMER] = key->consumer;
	values[KEY] = key->key;
	values[EVENT_ID] = Int64GetDatum(event_id);
	values[TIME] = TimestampTzGetDatum(time);
	heap_freetuple(obx_table_insert(table, values, nulls));
	table_close(table, NoLock);
}
