/*
 * Telling those who LISTEN that the log has grown.
 */
#ifndef OBX_ANNOUNCEMENT_H
#define OBX_ANNOUNCEMENT_H

/*
 * Notifies those who listen in this database when the current transaction
 * commits, which must not be one with anything else to do: its commit need not
 * reach the disk, and it holds NOTIFY's lock.  False: that lock is not free,
 * and "wait" is false.
 */
extern bool obx_announcement_send(int64 head, bool wait);

#endif							/* OBX_ANNOUNCEMENT_H */
