/*
 * The log as dispatchers read it: what one subscription has read is there for
 * the next.
 */
#ifndef OBX_STREAM_H
#define OBX_STREAM_H

#include "log/read.h"

/*
 * Reads the events after a position with the active snapshot; "after_id" as
 * for obx_reader_begin().  One stream at a time; ends by obx_stream_end(), or
 * with the transaction's abort.
 */
extern void obx_stream_begin(int64 after, int64 after_id);

/* The slot is valid until the next call. */
extern bool obx_stream_next(ObxReadEvent *event);
extern void obx_stream_end(void);

#endif							/* OBX_STREAM_H */
