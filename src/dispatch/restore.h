/*
 * Making subscriptions fit a log that was loaded.
 */
#ifndef OBX_RESTORE_H
#define OBX_RESTORE_H

/* From _PG_init. */
extern void obx_restore_init(void);

/* What outbox.status says of one whose lanes are at OBX_POSITION_UNKNOWN. */
#define OBX_UNKNOWN_ERROR \
	"how far it has come is not known: the log and the progress of subscriptions were not restored together"

#endif							/* OBX_RESTORE_H */
