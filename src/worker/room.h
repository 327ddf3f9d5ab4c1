/*
 * Room: which worker gives way when the server's worker processes run out.
 */
#ifndef OBX_ROOM_H
#define OBX_ROOM_H

#include "datatype/timestamp.h"

/*
 * True if another process has been waiting for a worker process longer than
 * "since", and still tries.  Locked or shared.
 */
extern bool obx_room_is_behind(TimestampTz since, TimestampTz now);

/*
 * Asks a worker somewhere to give up its process, for a dispatcher of that
 * database, or for a sequencer (InvalidOid), which has been waiting since then.
 * Does nothing while another is about to leave.  Locked.
 */
extern void obx_room_make(Oid database, TimestampTz since, TimestampTz now);

#endif							/* OBX_ROOM_H */
