/*
 * Questions about the contents of the log, for loading it and for assigning
 * ids.
 */
#ifndef OBX_HIGHEST_H
#define OBX_HIGHEST_H

/* The highest id of an event in the log, committed or not; 0 if it has none. */
extern int64 obx_log_highest_id(void);

/* Does the log contain an event? */
extern bool obx_log_has_events(void);

/* Has the log neither events, including those being written, nor positions? */
extern bool obx_log_is_empty(void);

#endif							/* OBX_HIGHEST_H */
