/*
 * What the log holds, as far as it matters to those who load it, or draw ids.
 */
#ifndef OBX_HIGHEST_H
#define OBX_HIGHEST_H

/* The highest id of an event in the log, committed or not; 0 if it has none. */
extern int64 obx_log_highest_id(void);

/* Does it hold an event? */
extern bool obx_log_has_events(void);

/* Has it neither events, also none that are being written, nor positions? */
extern bool obx_log_is_empty(void);

#endif							/* OBX_HIGHEST_H */
