/*
 * Waits that double from one failure to the next, in whatever unit.
 */
#ifndef OBX_BACKOFF_H
#define OBX_BACKOFF_H

/* The wait after that one, which is 0 at the beginning. */
static inline int64
obx_backoff_next(int64 wait, int64 first, int64 longest)
{
	return wait == 0 ? first : Min(wait * 2, longest);
}

/* The wait after so many failures in a row, from 1 on. */
static inline int64
obx_backoff_after(int failures, int64 first, int64 longest)
{
	return Min(first << Min(failures - 1, 16), longest);
}

#endif							/* OBX_BACKOFF_H */
