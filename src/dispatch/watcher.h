/*
 * How the process that runs a pass follows it: what it is asked and told on the
 * way.
 */
#ifndef OBX_WATCHER_H
#define OBX_WATCHER_H

/*
 * Asked after each event, with the microseconds since the batch began: true
 * ends the batch there, because others wait.
 */
typedef bool (*ObxWatcherYield) (int64 elapsed);

/*
 * Told, before each call of the subscriber's code, which position it is for;
 * OBX_WATCHER_SEVERAL if for several, and while the batch is being committed.
 */
typedef void (*ObxWatcherNote) (int64 position);

#define OBX_WATCHER_SEVERAL (-1)

#endif							/* OBX_WATCHER_H */
