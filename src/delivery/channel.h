/*
 * Targets that are channels of NOTIFY.
 */
#ifndef OBX_CHANNEL_H
#define OBX_CHANNEL_H

#include "delivery/target.h"

extern ObxTarget *obx_channel_open(const ObxSubscription *subscription);

#endif							/* OBX_CHANNEL_H */
