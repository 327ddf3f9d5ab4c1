/*
 * Progress that a sink keeps.
 */
#include "relay/progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A bound for what nobody acks any more: only the newest ones are kept. */
#define MOST_SENT 400000

void
obx_progress_clear(ObxProgress *progress)
{
	free(progress->sent);
	memset(progress, 0, sizeof(*progress));
}

/* ---- the text ---- */

/* The first position; then the way to the next one, "*" how often it is taken. */
static void
append_positions(ObxText *text, const int64_t * positions, int count)
{
	int			i = 0;

	if (count > 0)
		obx_text_printf(text, "%lld", (long long) positions[i++]);
	while (i < count)
	{
		int64_t		step = positions[i] - positions[i - 1];
		int			times = 1;

		while (i + times < count && positions[i + times] - positions[i + times - 1] == step)
			times++;
		obx_text_printf(text, times > 1 ? ",%lld*%d" : ",%lld", (long long) step, times);
		i += times;
	}
}

void
obx_progress_append(ObxText *text, const ObxProgress *progress)
{
	obx_text_printf(text, "{\"generation\":%d,\"subscription\":%lld,\"seeks\":%lld,\"position\":%lld,"
					"\"delivered\":%lld,\"sent\":\"",
					progress->generation, (long long) progress->subscription,
					(long long) progress->seeks, (long long) progress->position,
					(long long) progress->delivered);
	append_positions(text, progress->sent, progress->nsent);
	obx_text_append_string(text, "\"}");
}

static bool
read_number(const char *c, const char **end, int64_t * number)
{
	errno = 0;
	*number = strtoll(c, (char **) end, 10);
	return errno == 0 && *end != c && *number >= 0;
}

static bool
parse_positions(const char *c, ObxProgress *progress)
{
	int64_t		last = 0;
	int			room = 0;

	while (*c != '\0')
	{
		int64_t		step;
		int64_t		times = 1;

		if (!read_number(c, &c, &step) || step == 0 ||
			(*c == '*' && !read_number(c + 1, &c, &times)) ||
			times > 2 * MOST_SENT - progress->nsent || step > (INT64_MAX - last) / (times + 1) ||
			(*c == ',' ? *++c == '\0' : *c != '\0'))
			return false;
		if (progress->nsent + times > room)
		{
			room = 2 * (progress->nsent + times);
			progress->sent = obx_reallocate(progress->sent, room * sizeof(int64_t));
		}
		for (int64_t i = 0; i < times; i++)
			progress->sent[progress->nsent++] = last += step;
	}
	return true;
}

static bool
find_number(const char *text, const char *name, int64_t * number)
{
	ObxText		value;
	const char *end;
	bool		found;

	obx_text_init(&value);
	found = obx_json_find_text(text, name, &value) && read_number(value.data, &end, number) &&
		*end == '\0';
	obx_text_free(&value);
	return found;
}

bool
obx_progress_parse(const char *text, ObxProgress *progress)
{
	ObxText		sent;
	int64_t		generation;
	bool		good;

	memset(progress, 0, sizeof(*progress));
	obx_text_init(&sent);
	good = text[0] == '{' && find_number(text, "generation", &generation) &&
	generation <= INT32_MAX &&
	find_number(text, "subscription", &progress->subscription) &&
	find_number(text, "seeks", &progress->seeks) &&
	find_number(text, "position", &progress->position) &&
	find_number(text, "delivered", &progress->delivered) &&
	obx_json_find(text, "sent", &sent) && parse_positions(sent.data, progress);

	obx_text_free(&sent);
	if (good)
		progress->generation = generation;
	else
		obx_progress_clear(progress);
	return good;
}

/* ---- positions ---- */

static int
compare(const void *a, const void *b)
{
	int64_t		one = *(const int64_t *) a;
	int64_t		other = *(const int64_t *) b;

	return one < other ? -1 : one > other;
}

bool
obx_progress_has(const ObxProgress *progress, int64_t position)
{
	return progress->nsent > 0 &&
		bsearch(&position, progress->sent, progress->nsent, sizeof(int64_t), compare) != NULL;
}

void
obx_progress_remove(ObxProgress *progress, const int64_t * positions, int count)
{
	int			left = 0;
	int			next = 0;

	for (int i = 0; i < progress->nsent; i++)
	{
		while (next < count && positions[next] < progress->sent[i])
			next++;
		if (next == count || positions[next] != progress->sent[i])
			progress->sent[left++] = progress->sent[i];
	}
	progress->nsent = left;
}

void
obx_progress_remove_to(ObxProgress *progress, int64_t position)
{
	int			gone = 0;

	while (gone < progress->nsent && progress->sent[gone] <= position)
		gone++;
	progress->nsent -= gone;
	memmove(progress->sent, progress->sent + gone, progress->nsent * sizeof(int64_t));
}

void
obx_progress_add(ObxProgress *progress, const int64_t * positions, int count)
{
	int			left = 0;
	bool		ascending = true;

	progress->sent = obx_reallocate(progress->sent, (progress->nsent + count) * sizeof(int64_t));
	memcpy(progress->sent + progress->nsent, positions, count * sizeof(int64_t));
	progress->nsent += count;
	for (int i = 1; i < progress->nsent && ascending; i++)
		ascending = progress->sent[i] > progress->sent[i - 1];
	if (!ascending)
	{
		qsort(progress->sent, progress->nsent, sizeof(int64_t), compare);
		for (int i = 0; i < progress->nsent; i++)
			if (left == 0 || progress->sent[i] != progress->sent[left - 1])
				progress->sent[left++] = progress->sent[i];
		progress->nsent = left;
	}
	if (progress->nsent > MOST_SENT)
	{
		memmove(progress->sent, progress->sent + progress->nsent - MOST_SENT,
				MOST_SENT * sizeof(int64_t));
		progress->nsent = MOST_SENT;
	}
}

/* ---- the database's place ---- */

/* Of a log that has gone on, it says nothing about the place that the database is in. */
static bool
is_of_another_log(const ObxProgress *progress, const ObxStanding *standing)
{
	return progress->generation < standing->generation ||
		progress->subscription != standing->subscription;
}

static bool
fits(const ObxProgress *progress, bool found, const ObxStanding *standing, ObxText *why)
{
	if (found && progress->generation > standing->generation)
		obx_text_printf(why, "the sink has events of generation %d of the log, and this server is at %d:"
						" it is not the newest primary", progress->generation, standing->generation);
	else if (found && !is_of_another_log(progress, standing) && progress->seeks > standing->seeks)
		obx_text_printf(why, "the sink has seen %lld seeks of the subscription, and this server has seen"
						" %lld: it has gone back in time", (long long) progress->seeks,
						(long long) standing->seeks);
	else if (found && progress->generation < standing->generation)
		return true;
	else if (standing->delivered >
			 (found && !is_of_another_log(progress, standing) && progress->seeks == standing->seeks ?
			  progress->delivered : 0))
		obx_text_printf(why, "the database counts %lld events as delivered, and the sink knows of %lld:"
						" the sink has lost events, is another one, or others have acked them;"
						" \"pg_outbox seek\" says where to go on, at position %lld or before",
						(long long) standing->delivered,
						(long long) (found && !is_of_another_log(progress, standing) &&
									 progress->seeks == standing->seeks ? progress->delivered : 0),
						(long long) standing->position + 1);
	else
		return true;
	return false;
}

bool
obx_progress_reconcile(ObxProgress *progress, bool found, const ObxStanding *standing, ObxText *why)
{
	if (!fits(progress, found, standing, why))
		return false;
	if (!found || is_of_another_log(progress, standing) || progress->seeks != standing->seeks)
		obx_progress_clear(progress);
	progress->generation = standing->generation;
	progress->subscription = standing->subscription;
	progress->seeks = standing->seeks;
	return true;
}
