/*
 * Hand-outs that ended without an ack or nack: which event is blamed for it.
 */
#ifndef OBX_BLAME_H
#define OBX_BLAME_H

#include "catalog/delivery.h"
#include "pull/lane.h"

/*
 * Of one that is recorded, whose lists are loaded: an event that it had alone
 * has failed; where it had several, the next hand-outs are small until so many
 * are dealt with.
 */
extern void obx_blame_handout(ObxPullLane *work);

/* The event was handed out alone, and its consumer ended without a word. */
extern void obx_blame_event(ObxPullLane *work, int64 position, TimestampTz ended);

/* One of so many events, from that position on, ended its consumer. */
extern void obx_blame_several(ObxPullLane *work, int64 position, int count, TimestampTz ended);

/* The first that is handed out. */
extern int64 obx_blame_first(const ObxProgress *progress);

/* Did the event's last consumer end without a word?  Then it is handed out alone. */
extern bool obx_blame_is_suspect(const ObxDelivery *delivery);

#endif							/* OBX_BLAME_H */
