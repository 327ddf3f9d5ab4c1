/*
 * Lists of positions.
 */
#ifndef OBX_POSITIONS_H
#define OBX_POSITIONS_H

/*
 * A list of positions, ascending, of which they go one by one: mostly the first
 * ones.  It is written once, with one version, as ranges; those after it only
 * say which one that was, how many are left, and a few that are gone from its
 * middle.  So it is not read with the progress either: see
 * obx_progress_load().
 */
typedef struct ObxPositions
{
	int			count;
	int64	   *list;			/* NULL: not loaded */
	int64		version;		/* of which these are the last ones; 0: of
								 * none, must be written */
	int			ngone;
	int64	   *gone;			/* but for those; in no order */
} ObxPositions;

/* A new list, of which the caller keeps nothing. */
extern void obx_positions_set(ObxPositions *positions, int64 *list, int count);

/* Adds to a list that is loaded, in CurrentMemoryContext. */
extern void obx_positions_add(ObxPositions *positions, const int64 *list, int count);

/* Takes "count" out of a list that is loaded; from its front, that is cheap. */
extern void obx_positions_remove(ObxPositions *positions, int from, int count);

/* Likewise those of an ascending list, which must all be in it. */
extern void obx_positions_take(ObxPositions *positions, const int64 *taken, int count);

/* Where among the first "count" of a list that is loaded; -1 for nowhere. */
extern int	obx_positions_find(const ObxPositions *positions, int count, int64 position);

/*
 * As a list is stored: a negative number ends a range that began with the
 * number before it.  encode returns the count of numbers, or -1 if there is no
 * room for them; decode what the numbers stand for, in CurrentMemoryContext,
 * NULL if they are none of ours.
 */
extern int	obx_positions_encode(const ObxPositions *positions, int64 *numbers, int limit);
extern int64 *obx_positions_decode(const int64 *numbers, int nnumbers, int *count);

/* Takes those that are gone out of the list as it was read, of which they are. */
extern void obx_positions_skip_gone(ObxPositions *positions);

#endif							/* OBX_POSITIONS_H */
