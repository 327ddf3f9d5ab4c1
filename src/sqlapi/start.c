/*
 * Where in the log a subscription starts, or goes on.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "base/compat.h"
#include "log/age.h"
#include "log/segment.h"
#include "sqlapi/argument.h"
#include "sqlapi/start.h"
#include "subscription/lifecycle.h"

void
obx_start_check(int64 position, const char *given)
{
	int64		oldest = obx_segment_oldest(NULL);
	int64		head = obx_segment_head(NULL);

	if (oldest == 0)
		oldest = head + 1;
	if (position < oldest || position > head + 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position %s is outside of what is kept", given),
				 oldest > head ?
				 errdetail("Nothing is kept, the next position to come is " INT64_FORMAT ".",
						   head + 1) :
				 errdetail("Positions " INT64_FORMAT " to " INT64_FORMAT
						   " are kept, the next to come is " INT64_FORMAT ".",
						   oldest, head, head + 1)));
}

int64
obx_start_at_time(TimestampTz time)
{
	ObxSegment *segment = obx_age_find_since(time, NULL);

	return segment != NULL ? segment->first_position : obx_segment_head(NULL) + 1;
}

/* Digits: too many of them are a position that cannot be. */
static int64
parse_position(const char *start)
{
	int64		position;

	errno = 0;
	position = strtoll(start, NULL, 10);
	obx_start_check(errno != 0 ? PG_INT64_MAX : position, start);
	return position;
}

int64
obx_start_find(const char *start, ObxSubscription *subscription)
{
	obx_lifecycle_pin_retention();
	if (strcmp(start, "now") == 0)
		return obx_lifecycle_start_now(subscription);
	if (strcmp(start, "beginning") == 0)
	{
		int64		oldest = obx_segment_oldest(NULL);

		return oldest > 0 ? oldest : obx_segment_head(NULL) + 1;
	}
	if (start[0] != '\0' && strspn(start, "0123456789") == strlen(start))
		return parse_position(start);
	/* what is no timestamp may have been meant as one of the words */
	return obx_start_at_time(obx_argument_parse_time(start,
													 "It is neither a word, nor digits, nor a timestamp.",
													 "A subscription starts at 'now', at the 'beginning', at a position or at a timestamp."));
}
