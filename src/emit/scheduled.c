/*
 * Scheduled events: stored now, and moved into the log when they are due.
 *
 * To move an event, one transaction deletes its row and appends the event.  So
 * it enters exactly once, through any crash.  One session moves at a time;
 * otherwise events would not enter in order.  A session that cancels an event
 * locks the row by deleting it.  Moving does not wait for that, because an
 * open transaction must delay nothing but its own events.
 *
 * An event was checked and has inherited when it was published, so it is
 * appended unchanged.
 *
 * Locks: (outbox.schedule, 1), exclusive, while moving, until the transaction
 * ends.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "base/doorbell.h"
#include "catalog/locks.h"
#include "catalog/names.h"
#include "catalog/sequence.h"
#include "emit/append.h"
#include "emit/contract.h"
#include "emit/depth.h"
#include "emit/once.h"
#include "emit/scheduled.h"
#include "log/event.h"
#include "log/generation.h"

/* A batch of large events ends sooner. */
#define OBX_DUE_BYTES (16 * 1024 * 1024)

/* Which column of outbox.schedule is which of outbox.event. */
static const struct
{
	ObxScheduleColumn scheduled;
	ObxEventColumn event;
}			columns[] = {
	{OBX_SCHEDULE_TYPE, OBX_EVENT_TYPE},
	{OBX_SCHEDULE_SOURCE, OBX_EVENT_SOURCE},
	{OBX_SCHEDULE_KEY, OBX_EVENT_KEY},
	{OBX_SCHEDULE_DATA, OBX_EVENT_DATA},
	{OBX_SCHEDULE_HEADERS, OBX_EVENT_HEADERS},
	{OBX_SCHEDULE_CORRELATION_ID, OBX_EVENT_CORRELATION_ID},
	{OBX_SCHEDULE_CAUSATION_ID, OBX_EVENT_CAUSATION_ID}
};

typedef struct Batch
{
	ObxSchedulePlace *place;
	ObxScheduledMove *result;
	TimestampTz now;
	Size		bytes;
} Batch;

int64
obx_scheduled_schedule(Datum *values, bool *nulls, TimestampTz deliver_at, Datum idempotency_key,
					   TimestampTz now)
{
	int64		id;
	Datum		row[OBX_SCHEDULE_COLUMNS];
	bool		row_nulls[OBX_SCHEDULE_COLUMNS] = {false};

	(void) obx_depth_check(values[OBX_EVENT_TYPE]);
	obx_contract_check(values[OBX_EVENT_TYPE], values[OBX_EVENT_DATA]);
	obx_event_inherit(values, nulls);
	for (int i = 0; i < lengthof(columns); i++)
	{
		row[columns[i].scheduled] = values[columns[i].event];
		row_nulls[columns[i].scheduled] = nulls[columns[i].event];
	}
	row[OBX_SCHEDULE_DELIVER_AT] = TimestampTzGetDatum(deliver_at);
	row[OBX_SCHEDULE_IDEMPOTENCY_KEY] = idempotency_key;
	row_nulls[OBX_SCHEDULE_IDEMPOTENCY_KEY] = idempotency_key == (Datum) 0;
	row[OBX_SCHEDULE_SCHEDULED_AT] = TimestampTzGetDatum(now);
	id = obx_schedule_insert(row, row_nulls);
	obx_doorbell_arm_due(deliver_at);
	return id;
}

/* ---- moving ---- */

/* The event in a row; what lies elsewhere is fetched, for it goes with the row. */
static void
make_event(const Datum *row, const bool *row_nulls, Datum *values, bool *nulls, Size *bytes)
{
	memset(nulls, true, OBX_EVENT_COLUMNS * sizeof(bool));
	for (int i = 0; i < lengthof(columns); i++)
	{
		ObxEventColumn column = columns[i].event;

		nulls[column] = row_nulls[columns[i].scheduled];
		if (nulls[column])
			continue;
		values[column] = row[columns[i].scheduled];
		if (column == OBX_EVENT_CAUSATION_ID)
			continue;
		values[column] = PointerGetDatum(detoast_external_attr((struct varlena *)
															   DatumGetPointer(values[column])));
		*bytes += VARSIZE_ANY(DatumGetPointer(values[column]));
	}
}

/* Returns whether it was there to be moved. */
static bool
move_event(Batch *batch, const Datum *row, const bool *row_nulls, ItemPointer tid)
{
	Datum		values[OBX_EVENT_COLUMNS];
	bool		nulls[OBX_EVENT_COLUMNS];
	bool		has_key = !row_nulls[OBX_SCHEDULE_IDEMPOTENCY_KEY];
	int64		event_id;

	make_event(row, row_nulls, values, nulls, &batch->bytes);
	switch (obx_schedule_delete(tid, false))
	{
		case OBX_SCHEDULE_DELETED:
			break;
		case OBX_SCHEDULE_GONE:
			return false;
		case OBX_SCHEDULE_BUSY:
			batch->result->skipped = true;
			return false;
	}

	event_id = obx_event_append_complete(values, nulls, has_key);
	if (has_key)
		obx_once_complete(row[OBX_SCHEDULE_IDEMPOTENCY_KEY],
						  DatumGetTimestampTz(row[OBX_SCHEDULE_SCHEDULED_AT]), event_id);
	return true;
}

/* obx_append_together()'s function */
static void
move_batch(void *arg)
{
	Batch	   *batch = arg;
	ObxScheduledMove *result = batch->result;
	MemoryContext memory = AllocSetContextCreate(CurrentMemoryContext, "pg_outbox due event",
												 ALLOCSET_DEFAULT_SIZES);
	TimestampTz begin = GetCurrentTimestamp();
	ObxScheduleScan scan;
	Datum		row[OBX_SCHEDULE_COLUMNS];
	bool		row_nulls[OBX_SCHEDULE_COLUMNS];
	ItemPointerData tid;
	bool		first = true;
	int64		last_id;

	obx_schedule_scan_begin(&scan, *batch->place);
	last_id = obx_schedule_last_id();
	while (obx_schedule_scan_next(&scan, row, row_nulls, &tid))
	{
		MemoryContext old;

		CHECK_FOR_INTERRUPTS();
		if (first)
			result->search = GetCurrentTimestamp() - begin;
		first = false;

		/*
		 * a restore is under way, and has not come to the counters of ids; or
		 * one has set this one back
		 */
		if (DatumGetInt64(row[OBX_SCHEDULE_ID]) > last_id)
		{
			if (!obx_generation_accepts_load())
				obx_sequence_raise(OBX_SCHEDULE_ID_SEQ, obx_schedule_highest_id());
			break;
		}

		if (DatumGetTimestampTz(row[OBX_SCHEDULE_DELIVER_AT]) > batch->now)
		{
			result->next = DatumGetTimestampTz(row[OBX_SCHEDULE_DELIVER_AT]);
			break;
		}
		if (result->moved >= OBX_DUE_BATCH || batch->bytes >= OBX_DUE_BYTES)
		{
			result->more = true;
			break;
		}

		old = MemoryContextSwitchTo(memory);
		if (move_event(batch, row, row_nulls, &tid))
			result->moved++;
		MemoryContextSwitchTo(old);
		MemoryContextReset(memory);
		batch->place->deliver_at = DatumGetTimestampTz(row[OBX_SCHEDULE_DELIVER_AT]);
		batch->place->id = DatumGetInt64(row[OBX_SCHEDULE_ID]);
	}
	if (first)
		result->search = GetCurrentTimestamp() - begin;
	obx_schedule_scan_end(&scan);
	MemoryContextDelete(memory);
}

void
obx_scheduled_move(ObxSchedulePlace *place, bool wait, ObxScheduledMove *result)
{
	Batch		batch = {.place = place,.result = result};

	memset(result, 0, sizeof(ObxScheduledMove));
	result->next = DT_NOEND;
	if (!obx_lock_acquire(obx_lock_scheduled(), ExclusiveLock, wait))
	{
		result->busy = true;
		return;
	}
	batch.now = GetCurrentTimestamp();
	PushActiveSnapshot(GetLatestSnapshot());
	obx_append_together(move_batch, &batch);
	PopActiveSnapshot();
}

/* ---- cancelling ---- */

bool
obx_scheduled_cancel(int64 id)
{
	ItemPointerData tid;

	return obx_schedule_find(id, &tid) && obx_schedule_delete(&tid, true) == OBX_SCHEDULE_DELETED;
}

/* ---- by key ---- */

int64
obx_scheduled_find(Datum key)
{
	ObxScheduleUse use;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		obx_schedule_find_key(key, &use);
		if (!TransactionIdIsValid(use.writer) || use.id != 0)
			return use.id;
		XactLockTableWait(use.writer, NULL, NULL, XLTW_None);
	}
}

bool
obx_scheduled_postpone(int64 id, TimestampTz deliver_at)
{
	Datum		row[OBX_SCHEDULE_COLUMNS];
	bool		nulls[OBX_SCHEDULE_COLUMNS];
	ItemPointerData tid;

	if (!obx_schedule_fetch(id, row, nulls, &tid) ||
		obx_schedule_delete(&tid, true) != OBX_SCHEDULE_DELETED)
		return false;
	row[OBX_SCHEDULE_DELIVER_AT] = TimestampTzGetDatum(deliver_at);
	(void) obx_schedule_insert(row, nulls);
	obx_doorbell_arm_due(deliver_at);
	return true;
}
