/*
 * Dropping what nobody needs any more.
 */
#ifndef OBX_RETENTION_H
#define OBX_RETENTION_H

/*
 * Drops every partition whose events are all past retention and past every
 * subscription (or past max_retention), and the segments over them.  Runs DDL
 * in the current transaction, waits for no lock: what is in use is left for
 * the next time.  "needed_from" tells the first position that some subscription
 * still needs; whoever makes that an earlier one keeps a lock on outbox.event
 * until it is committed.  Returns how many partitions went.
 */
typedef int64 (*ObxNeededFrom) (void);

extern int	obx_retention_apply(ObxNeededFrom needed_from);

#endif							/* OBX_RETENTION_H */
