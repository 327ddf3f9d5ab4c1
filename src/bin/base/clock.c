/*
 * Time, durations and waiting.
 */
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FIRST_WAIT		(100 * OBX_MILLISECOND)
#define LONGEST_WAIT	(30 * OBX_SECOND)
#define REFUSED_WAIT	(10 * OBX_SECOND)

int64_t
obx_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * OBX_SECOND + now.tv_nsec / 1000;
}

bool
obx_duration_parse(const char *text, int64_t * duration)
{
	static const struct
	{
		const char *name;
		int64_t		length;
	}			units[] = {
		{"ms", OBX_MILLISECOND}, {"s", OBX_SECOND}, {"min", 60 * OBX_SECOND},
		{"h", 3600 * OBX_SECOND}, {"d", 86400 * OBX_SECOND}
	};
	char	   *end;
	long		number;

	if (*text <'0' || *text >'9')
		return false;
	number = strtol(text, &end, 10);
	if (number > 1000000)
		return false;
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcmp(end, units[i].name) == 0)
		{
			*duration = number * units[i].length;
			return true;
		}
	*duration = 0;
	return number == 0 && *end == '\0';
}

static int64_t
by_chance(int64_t wait)
{
	static bool seeded = false;

	if (!seeded)
		srandom(getpid() ^ obx_now());
	seeded = true;
	return wait / 2 + random() % (wait / 2 + 1);
}

void
obx_backoff_fail(ObxBackoff *backoff)
{
	int64_t		wait = FIRST_WAIT;

	for (int i = 0; i < backoff->failures && wait < LONGEST_WAIT; i++)
		wait *= 2;
	backoff->failures++;
	backoff->until = obx_now() + by_chance(wait < LONGEST_WAIT ? wait : LONGEST_WAIT);
}

void
obx_backoff_refuse(ObxBackoff *backoff)
{
	backoff->until = obx_now() +
		by_chance(backoff->failures == 0 ? 2 * REFUSED_WAIT : LONGEST_WAIT);
	backoff->failures++;
}

void
obx_backoff_reset(ObxBackoff *backoff)
{
	backoff->failures = 0;
	backoff->until = 0;
}

bool
obx_backoff_is_over(const ObxBackoff *backoff)
{
	return obx_now() >= backoff->until;
}
