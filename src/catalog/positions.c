/*
 * Lists of positions: what is done to them in memory, and how they are stored.
 *
 * Must not know rows.
 */
#include "postgres.h"

#include "catalog/positions.h"

/*
 * When so many positions are gone from the middle of a list, it is written
 * again.
 */
#define GONE_LIST 64

/* ---- how they are stored ---- */

int
obx_positions_encode(const ObxPositions *positions, int64 *numbers, int limit)
{
	int			count = 0;

	for (int i = 0; i < positions->count;)
	{
		int			end = i + 1;

		while (end < positions->count && positions->list[end] == positions->list[end - 1] + 1)
			end++;
		if (count + 2 > limit)
			return -1;
		numbers[count++] = positions->list[i];
		if (end - i > 2)
			numbers[count++] = -positions->list[end - 1];
		else if (end - i == 2)
			numbers[count++] = positions->list[end - 1];
		i = end;
	}
	return count;
}

/* How many positions the numbers stand for; -1 if they are none of ours. */
static int64
count_positions(const int64 *numbers, int nnumbers)
{
	int64		count = 0;

	for (int i = 0; i < nnumbers; i++)
	{
		if (numbers[i] >= 0)
			count++;
		else if (i == 0 || numbers[i - 1] < 0 || -numbers[i] <= numbers[i - 1])
			return -1;
		else
			count += -numbers[i] - numbers[i - 1];
		if (count > PG_INT32_MAX / (int64) sizeof(int64))
			return -1;
	}
	return count;
}

int64 *
obx_positions_decode(const int64 *numbers, int nnumbers, int *count)
{
	int64		total = count_positions(numbers, nnumbers);
	int64	   *list;

	*count = 0;
	if (total <= 0)
		return NULL;
	list = palloc(total * sizeof(int64));
	for (int i = 0; i < nnumbers; i++)
	{
		if (numbers[i] >= 0)
			list[(*count)++] = numbers[i];
		else
			for (int64 position = numbers[i - 1] + 1; position <= -numbers[i]; position++)
				list[(*count)++] = position;
	}
	return list;
}

/* ---- changing ---- */

static int
compare_numbers(const void *a, const void *b)
{
	int64		one = *(const int64 *) a;
	int64		other = *(const int64 *) b;

	return one < other ? -1 : one > other ? 1 : 0;
}

void
obx_positions_skip_gone(ObxPositions *positions)
{
	int			left = 0;
	int			gone = 0;

	qsort(positions->gone, positions->ngone, sizeof(int64), compare_numbers);
	for (int i = 0; i < positions->count + positions->ngone; i++)
	{
		if (gone < positions->ngone && positions->gone[gone] == positions->list[i])
			gone++;
		else if (left < positions->count)
			positions->list[left++] = positions->list[i];
	}
	if (gone < positions->ngone)
		elog(ERROR, "positions that are gone are not in their list");
}

void
obx_positions_set(ObxPositions *positions, int64 *list, int count)
{
	positions->list = list;
	positions->count = count;
	positions->version = 0;
	positions->ngone = 0;
}

void
obx_positions_add(ObxPositions *positions, const int64 *list, int count)
{
	int64	   *all = palloc((positions->count + count) * sizeof(int64));
	int			total = positions->count;

	if (total > 0)
		memcpy(all, positions->list, total * sizeof(int64));
	memcpy(&all[total], list, count * sizeof(int64));
	if (total > 0 && count > 0 && list[0] < all[total - 1])
		qsort(all, total + count, sizeof(int64), compare_numbers);
	obx_positions_set(positions, all, total + count);
}

/* Those that were gone before the first one need not be told of. */
static void
remove_first(ObxPositions *positions, int count)
{
	int			left = 0;

	positions->list += count;
	positions->count -= count;
	for (int i = 0; i < positions->ngone; i++)
		if (positions->count > 0 && positions->gone[i] > positions->list[0])
			positions->gone[left++] = positions->gone[i];
	positions->ngone = left;
}

static void
note_gone(ObxPositions *positions, const int64 *list, int count)
{
	int64	   *gone;

	if (positions->version == 0 || positions->ngone + count > GONE_LIST)
	{
		positions->version = 0;
		positions->ngone = 0;
		return;
	}
	gone = palloc(GONE_LIST * sizeof(int64));
	if (positions->ngone > 0)
		memcpy(gone, positions->gone, positions->ngone * sizeof(int64));
	memcpy(&gone[positions->ngone], list, count * sizeof(int64));
	positions->gone = gone;
	positions->ngone += count;
}

void
obx_positions_remove(ObxPositions *positions, int from, int count)
{
	if (from == 0)
	{
		remove_first(positions, count);
		return;
	}
	if (count == 0)
		return;
	note_gone(positions, &positions->list[from], count);
	memmove(&positions->list[from], &positions->list[from + count],
			(positions->count - from - count) * sizeof(int64));
	positions->count -= count;
}

void
obx_positions_take(ObxPositions *positions, const int64 *taken, int count)
{
	int			first = 0;
	int			left;
	int			next;

	while (first < count && positions->list[first] == taken[first])
		first++;
	remove_first(positions, first);
	next = left = 0;
	taken += first;
	count -= first;
	if (count == 0)
		return;
	note_gone(positions, taken, count);
	for (int i = 0; i < positions->count; i++)
	{
		if (next < count && positions->list[i] == taken[next])
			next++;
		else
			positions->list[left++] = positions->list[i];
	}
	if (next < count)
		elog(ERROR, "position " INT64_FORMAT " is not in the list", taken[next]);
	positions->count = left;
}

int
obx_positions_find(const ObxPositions *positions, int count, int64 position)
{
	int			low = 0;
	int			high = count;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (positions->list[middle] < position)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && positions->list[low] == position ? low : -1;
}
