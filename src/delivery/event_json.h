/*
 * An event as one JSON object, for handlers of (jsonb).
 */
#ifndef OBX_EVENT_JSON_H
#define OBX_EVENT_JSON_H

#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/jsonb.h"

/* An event as one object, with its position. */
extern Jsonb *obx_event_json_make(TupleDesc tupdesc, HeapTuple tuple, int64 position);

#endif							/* OBX_EVENT_JSON_H */
