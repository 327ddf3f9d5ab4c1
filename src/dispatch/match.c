/*
 * Does an event match a subscription?
 */
#include "postgres.h"

#include "dispatch/match.h"

/*
 * After a star, try the rest of the pattern at each place; only the last star
 * ever needs to give way, so the time is at most pattern times text.
 */
bool
obx_pattern_matches(const char *pattern, const char *text, int length)
{
	const char *end = text +length;
	const char *after_star = NULL;
	const char *retry = NULL;

	while (text <end)
	{
		if (*pattern == '*')
		{
			after_star = ++pattern;
			retry = text;
		}
		else if (*pattern != '\0' && *pattern == *text)
		{
			pattern++;
			text	  ++;
		}
		else if (after_star != NULL)
		{
			pattern = after_star;
			text = ++retry;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool
obx_patterns_match(char *const *patterns, int npatterns, const char *text, int length)
{
	for (int i = 0; i < npatterns; i++)
		if (obx_pattern_matches(patterns[i], text, length))
			return true;
	return false;
}
