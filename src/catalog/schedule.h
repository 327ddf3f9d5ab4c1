/*
 * Rows of outbox.schedule: events that are not due yet.
 */
#ifndef OBX_SCHEDULE_H
#define OBX_SCHEDULE_H

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

#include "base/table.h"

/* Columns of outbox.schedule, as attribute number minus one. */
typedef enum ObxScheduleColumn
{
	OBX_SCHEDULE_ID,
	OBX_SCHEDULE_DELIVER_AT,
	OBX_SCHEDULE_TYPE,
	OBX_SCHEDULE_SOURCE,
	OBX_SCHEDULE_KEY,
	OBX_SCHEDULE_DATA,
	OBX_SCHEDULE_HEADERS,
	OBX_SCHEDULE_CORRELATION_ID,
	OBX_SCHEDULE_CAUSATION_ID,
	OBX_SCHEDULE_IDEMPOTENCY_KEY,
	OBX_SCHEDULE_SCHEDULED_AT,
	OBX_SCHEDULE_COLUMNS
} ObxScheduleColumn;

/* A place in the order of rows: by deliver_at, then id. */
typedef struct ObxSchedulePlace
{
	TimestampTz deliver_at;
	int64		id;
} ObxSchedulePlace;

/* A scan of the rows behind a place, in their order. */
typedef struct ObxScheduleScan
{
	ObxScan		scan;
	bool		is_open;
	bool		same_time;		/* first those of the place's own time */
	ObxSchedulePlace place;
} ObxScheduleScan;

typedef enum ObxScheduleDeletion
{
	OBX_SCHEDULE_DELETED,
	OBX_SCHEDULE_GONE,			/* somebody else has */
	OBX_SCHEDULE_BUSY			/* somebody else perhaps will; without "wait" */
} ObxScheduleDeletion;

/* Fills in the id, and returns it. */
extern int64 obx_schedule_insert(Datum *values, bool *nulls);

/* Reads with a new snapshot. */
extern void obx_schedule_scan_begin(ObxScheduleScan *scan, ObxSchedulePlace place);

/* False at the end.  What is returned is valid until the next call. */
extern bool obx_schedule_scan_next(ObxScheduleScan *scan, Datum *values, bool *nulls,
								   ItemPointer tid);
extern void obx_schedule_scan_end(ObxScheduleScan *scan);

/* Deletes a row that a scan returned. */
extern ObxScheduleDeletion obx_schedule_delete(ItemPointer tid, bool wait);

/* What is known of an idempotency key. */
typedef struct ObxScheduleUse
{
	int64		id;				/* of the row that has it, committed or of
								 * this transaction; 0: none has */
	bool		in_snapshot;	/* and the transaction's snapshot sees it */
	TransactionId writer;		/* an open transaction that inserts or deletes
								 * a row which has it, or invalid */
} ObxScheduleUse;

/* Looks for the key as things are now, whatever snapshot the transaction has. */
extern void obx_schedule_find_key(Datum key, ObxScheduleUse *use);

/* Finds a row by its id; its columns are copied to CurrentMemoryContext. */
extern bool obx_schedule_find(int64 id, ItemPointer tid);
extern bool obx_schedule_fetch(int64 id, Datum *values, bool *nulls, ItemPointer tid);

/* Above all ids given; below that of a row that is being restored. */
extern int64 obx_schedule_last_id(void);

/* The highest id among the rows, 0 if there are none. */
extern int64 obx_schedule_highest_id(void);

#endif							/* OBX_SCHEDULE_H */
