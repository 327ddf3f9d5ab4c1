/*
 * The event: its columns, and the limits on their contents.
 *
 * An event in memory is two arrays in the order of the table's columns.
 */
#ifndef OBX_EVENT_H
#define OBX_EVENT_H

#include "executor/tuptable.h"
#include "utils/xid8.h"

#include "base/expression.h"

/* Columns of outbox.event, as attribute number minus one. */
typedef enum ObxEventColumn
{
	OBX_EVENT_ID,
	OBX_EVENT_XID,
	OBX_EVENT_TIME,
	OBX_EVENT_TYPE,
	OBX_EVENT_SOURCE,
	OBX_EVENT_KEY,
	OBX_EVENT_OPERATION,
	OBX_EVENT_DATA,
	OBX_EVENT_OLD,
	OBX_EVENT_HEADERS,
	OBX_EVENT_CORRELATION_ID,
	OBX_EVENT_CAUSATION_ID,
	OBX_EVENT_COLUMNS
} ObxEventColumn;

/* Bytes. */
#define OBX_TYPE_MAX_LENGTH		200
#define OBX_SOURCE_MAX_LENGTH	200
#define OBX_KEY_MAX_LENGTH		2000

/* ereport(ERROR, 22023 or 22001) unless the text is fit for the column. */
extern void obx_event_check_type(const char *type, int length);
extern void obx_event_check_source(const char *source, int length);
extern void obx_event_check_key(const char *key, int length);
extern void obx_event_check_correlation(int length);

/* Of all headers together, as jsonb is stored. */
extern void obx_event_check_headers(int length);

/*
 * A user's expression over the columns of outbox.event, which is its relation
 * number 1; as obx_expression_analyze().
 */
extern Node *obx_event_analyze(const char *text, const ObxExpressionKind *kind, Oid owner);

/* The transaction of the event in a slot, in the log's ids. */
static inline uint64
obx_event_xid(TupleTableSlot *slot)
{
	bool		isnull;
	Datum		xid = slot_getattr(slot, OBX_EVENT_XID + 1, &isnull);

	return U64FromFullTransactionId(DatumGetFullTransactionId(xid));
}

#endif							/* OBX_EVENT_H */
