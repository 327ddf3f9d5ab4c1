/*
 * Is the library preloaded, as workers need it?
 */
#ifndef OBX_PRELOAD_H
#define OBX_PRELOAD_H

/* What to do where it is not, for errhint(). */
extern const char *obx_preload_hint(void);

/* Warns of it where workers are wanted and there can be none. */
extern void obx_preload_warn(void);

#endif							/* OBX_PRELOAD_H */
