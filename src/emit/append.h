/*
 * Appending events to the log.
 */
#ifndef OBX_APPEND_H
#define OBX_APPEND_H

#include "log/event.h"

/* Registers transaction callbacks and executor hooks; from _PG_init only. */
extern void obx_append_init(void);

/*
 * Appends one event for the current transaction and returns its id.
 *
 * The caller fills type, source, key, operation, data, old and headers in
 * arrays of OBX_EVENT_COLUMNS, all checked, and copies nothing: values are
 * copied before this returns.  headers may be NULL for "none" (nulls[] set);
 * session and inherited headers are merged under it.  id, xid, time,
 * correlation_id and causation_id are filled in here.
 *
 * The event is in the table when the running statement ends at the latest;
 * rows of one statement are written together.  No privilege is checked.
 */
extern int64 obx_event_append(Datum *values, bool *nulls);

/*
 * Like obx_event_append(), for callers that do not need the id: it is assigned
 * when the row is written.
 */
extern void obx_event_emit(Datum *values, bool *nulls);

/*
 * Like obx_event_append(), for an event whose headers, correlation_id (NULL:
 * it starts one) and causation_id are set: it inherits nothing, and neither
 * its contract nor the limit of causes is checked.  Returns the id, or 0
 * unless "need_id".
 */
extern int64 obx_event_append_complete(Datum *values, bool *nulls, bool need_id);

/*
 * Fills in the columns that an event emitted now inherits; correlation_id may
 * stay NULL.
 */
extern void obx_event_inherit(Datum *values, bool *nulls);

/*
 * Like obx_event_append(), for an event that the caller may still replace
 * within the same statement.  The event is held back as long as the buffer
 * allows.  Returns the id.
 */
extern int64 obx_event_append_held(Datum *values, bool *nulls);

/*
 * Takes back an event that the current subtransaction appended held.  Returns
 * false if the event has been written already and stays.
 */
extern bool obx_event_retract(int64 id);

/*
 * Writes the events that the current subtransaction emitted and that are not
 * written yet.
 */
extern void obx_append_flush(void);

/* Calls function(arg), and writes the events that it appends together. */
extern void obx_append_together(void (*function) (void *arg), void *arg);

#endif							/* OBX_APPEND_H */
