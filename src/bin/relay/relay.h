/*
 * The loop between the database and a sink.
 */
#ifndef OBX_BIN_RELAY_H
#define OBX_BIN_RELAY_H

#include "base/log.h"
#include "relay/settings.h"

/* Reads the file, and runs until it is stopped; the exit code. */
extern int	obx_relay_run(const char *path, const ObxConnectOptions *connect, ObxRelayMode mode);

#endif							/* OBX_BIN_RELAY_H */
