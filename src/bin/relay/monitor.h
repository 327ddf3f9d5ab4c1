/*
 * What a relay tells those who watch it: pages by HTTP, and systemd.
 *
 * It answers GET for three pages and no more: /metrics, /live and /ready.
 */
#ifndef OBX_BIN_MONITOR_H
#define OBX_BIN_MONITOR_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

#define OBX_MONITOR_CLIENTS 16

typedef struct ObxMonitor ObxMonitor;

/* The page's text; returns whether all is well.  "page" is without the "/". */
typedef bool (*ObxPageFunction) (const char *page, ObxText *text, void *context);

/* "HOST:PORT"; NULL if that cannot be had: *error, to be freed, says why. */
extern ObxMonitor *obx_monitor_open(const char *listen, ObxPageFunction make, void *context,
									char **error);
extern void obx_monitor_close(ObxMonitor *monitor);

/* Descriptors to wait for: OBX_MONITOR_CLIENTS + 1 at most. */
extern int	obx_monitor_wait_for(ObxMonitor *monitor, struct pollfd *descriptors, int64_t * until);
extern void obx_monitor_work(ObxMonitor *monitor);

/* Tells systemd, if it asked: "READY=1" and the like. */
extern void obx_notify(const char *state);

/* How often systemd wants to hear "WATCHDOG=1"; 0: not at all. */
extern int64_t obx_notify_interval(void);

#endif							/* OBX_BIN_MONITOR_H */
