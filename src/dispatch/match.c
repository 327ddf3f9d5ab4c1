/*
 * Does an event match a subscription?
 */
#include "postgres.h"

#include "base/compat.h"
#include "dispatch/match.h"
#include "log/event.h"

/*
 * After a star, try the rest of the pattern at each place; only the last star
 * ever needs to give way, so the time is at most pattern times text.
 */
bool
obx_pattern_matches(const char *pattern, const char *string, int length)
{
	const char *end = string + length;
	const char *after_star = NULL;
	const char *retry = NULL;

	while (string < end)
	{
		if (*pattern == '*')
		{
			after_star = ++pattern;
			retry = string;
		}
		else if (*pattern != '\0' && *pattern == *string)
		{
			pattern++;
			string++;
		}
		else if (after_star != NULL)
		{
			pattern = after_star;
			string = ++retry;
		}
		else
			return false;
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool
obx_patterns_match(char *const *patterns, int npatterns, const char *string, int length)
{
	for (int i = 0; i < npatterns; i++)
		if (obx_pattern_matches(patterns[i], string, length))
			return true;
	return false;
}

bool
obx_subscription_wants_type(const ObxSubscription *subscription, const text *type)
{
	const char *emitted = subscription->emit_type;

	/* what an aggregate emits it does not fold, whatever its patterns say */
	if (emitted != NULL && strlen(emitted) == VARSIZE_ANY_EXHDR(type) &&
		memcmp(emitted, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) == 0)
		return false;
	if (subscription->ntypes == 1 && strcmp(subscription->types[0], "*") == 0)
		return true;
	return obx_patterns_match(subscription->types, subscription->ntypes,
							  VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
}

bool
obx_subscription_wants_event(const ObxSubscription *subscription, TupleTableSlot *event)
{
	bool		isnull;

	return obx_subscription_wants_type(subscription,
									   DatumGetTextPP(slot_getattr(event, OBX_EVENT_TYPE + 1, &isnull)));
}
